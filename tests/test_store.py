import errno
import math
import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import torch

from mint_cli import files, source
from mint_cli.allocation.layer_quota import layer_quota
from mint_cli.errors import DataError, SettingError, sentence
from mint_cli.store import Scratch, Store, describe, fingerprint, line, sealed, step, versioned

CPU = torch.device("cpu")
FORK = multiprocessing.get_context("fork")


def make(value, log, context):
    with open(log, "a") as f:
        f.write("made\n")
    return {"x": torch.full((3,), float(value))}, {"value": value}


@dataclass(frozen=True)
class Log:
    path: Path = field(metadata={"identity": False})

    def __fspath__(self):
        return str(self.path)


def times_made(log: Log) -> int:
    return len(log.path.read_text().splitlines()) if log.path.exists() else 0


@pytest.fixture
def log(tmp_path) -> Log:
    return Log(tmp_path / "log")


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store", CPU)


def plugin(*, a, b):
    return a, b


# keys


def test_the_key_of_a_step_is_what_it_was_when_the_format_was_fixed():
    """Stored artifacts stay valid as long as it stands; a change of meaning raises FORMAT."""
    settings = {"rate": 0.1, "layers": [1, 2], "name": "é", "none": None}
    assert fingerprint("train", 1, settings, 7) == "bc87e2b221c55b0169c5304b"


def test_the_key_changes_with_every_setting_and_with_nothing_else():
    def key(a=1, b=2.0, seed=0, path="x", after=()):
        return step(make, partial(plugin, *after, a=a, b=b), seed, Log(Path(path))).key

    assert key() == key(path="elsewhere")
    assert len({key(), key(a=2), key(b=2.5), key(seed=1), key(after=(3,))}) == 5


def test_the_key_knows_the_settings_of_plug_ins_in_plug_ins_and_in_dataclasses():
    @dataclass(frozen=True)
    class Network:
        model: partial

    def key(inner):
        return step(make, partial(plugin, a=Network(partial(plugin, a=inner, b=0)), b=0)).key

    assert key(1) == key(1) != key(2)


def test_mending_a_plug_in_changes_the_keys_of_what_is_made_with_it_and_of_no_other(monkeypatch):
    def keys():
        train = step(make, partial(plugin, a=1, b=2))
        score = step(make, partial(layer_quota), train)
        return train.key, score.key, step(make, score).key

    before, digest = keys(), source.digest
    monkeypatch.setattr(source, "digest", lambda f: "new" if f is layer_quota else digest(f))
    after = keys()
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, False]


def test_a_raised_version_changes_the_keys_of_a_stage_and_of_what_follows_it():
    def stage(context):
        return {}, {}

    first = step(stage)
    before = first.key, step(make, first).key
    assert versioned(1)(stage) is stage and step(stage).key == before[0]
    newer = step(versioned(2)(stage))
    assert newer.key != before[0] and step(make, newer).key != before[1]


def test_a_value_that_says_what_it_is_identified_by_is_described_by_that():
    @dataclass(frozen=True)
    class Data:
        root: str

        def identity(self):
            return {"content": "abc", "dataset": partial(plugin, a=1, b=2)}

    described = describe(Data("anywhere"))["Data"]
    assert described["content"] == "abc" and described["dataset"]["settings"] == {"a": 1, "b": 2}
    assert describe(Data("anywhere")) == describe(Data("elsewhere"))


def test_a_plug_in_whose_code_cannot_be_known_is_refused():
    with pytest.raises(SettingError, match="cannot be a plug-in"):
        step(make, partial(lambda: 1)).key  # noqa: B018


# artifacts


def test_a_finished_step_is_loaded_and_not_taken_again(log, store):
    first, second = (store.get(step(make, 3, log)) for _ in range(2))
    assert times_made(log) == 1
    assert torch.equal(first.tensors["x"], second.tensors["x"])
    assert first.metrics == second.metrics == {"value": 3}


def writing(root: Path) -> Callable[[str, tuple], str]:
    """What a file operation below a folder does, as an audit hook sees it; empty if it reads."""
    changes = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink")

    def operation(event: str, args: tuple) -> str:
        if event not in (*changes, "open") or not str(args[0]).startswith(str(root)):
            return ""
        reads = event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return "" if reads else f"{event} {Path(str(args[0])).name}"

    return operation


def in_child(work: Callable, hook: Callable | None = None) -> int:
    """Exit status of a forked process that does some work under an audit hook."""
    if not (pid := os.fork()):
        try:
            if hook:
                sys.addaudithook(hook)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def read_only(root: Path) -> Callable:
    operation = writing(root)

    def hook(event, args):
        if what := operation(event, args):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), what)

    return hook


def test_a_finished_step_is_loaded_from_a_store_that_cannot_be_written(log, store):
    first = step(make, 3, log)
    last = step(make, 4, log)
    store.get(first)
    assert in_child(lambda: store.get(first), read_only(store.root)) == 0
    assert in_child(lambda: store.get(last), read_only(store.root)) == 1
    assert times_made(log) == 1  # told before the work


FILES = [files.TENSORS, files.METRICS, files.SECONDS, files.SUMS]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage", ["truncate", "alter", "empty", "remove", "folder", "pipe", "link"]
)
def test_a_damaged_artifact_is_noticed_and_made_anew(log, store, caplog, name, damage):
    s = step(make, 3, log)
    store.get(s)
    victim = store.folder(s) / name
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.unlink()
    if damage in ("truncate", "alter", "empty"):
        size = {"truncate": len(data) // 2, "alter": len(data), "empty": 0}[damage]
        victim.write_bytes(data[:size])
    elif damage == "folder":
        victim.mkdir()
    elif damage == "pipe":
        os.mkfifo(victim)
    elif damage == "link":
        victim.symlink_to(victim)
    again = store.get(s)
    assert times_made(log) == 2 and caplog.text.count("is damaged") == 1
    assert torch.equal(again.tensors["x"], torch.full((3,), 3.0))
    store.get(s)
    assert times_made(log) == 2


@pytest.mark.parametrize("there", ["file", "pipe", "link loop", "link to nothing", "empty folder"])
def test_whatever_lies_in_the_place_of_an_artifact_is_replaced(log, store, there):
    s = step(make, 3, log)
    folder = store.folder(s)
    folder.parent.mkdir(parents=True)
    if there == "file":
        folder.write_text("no artifact")
    elif there == "pipe":
        os.mkfifo(folder)
    elif there == "empty folder":
        folder.mkdir()
    else:
        folder.symlink_to(folder if there == "link loop" else folder.with_name("nothing"))
    for _ in range(2):
        assert store.get(s).metrics == {"value": 3}
    assert times_made(log) == 1 and not folder.is_symlink()


def test_artifacts_that_were_swapped_are_noticed_told_by_name_and_made_anew(log, store, caplog):
    steps = [step(make, value, log) for value in (1, 2)]
    for s in steps:
        store.get(s)
    one, two = map(store.folder, steps)
    aside = one.rename(one.with_name("aside"))
    two.rename(one)
    aside.rename(two)
    assert [store.get(s).metrics["value"] for s in steps] == [1, 2]
    for s, other in (steps, steps[::-1]):
        assert f"artifact {s.key} is damaged (it is make {other.key})" in caplog.text
    assert [store.get(s).metrics["value"] for s in steps] == [1, 2] and times_made(log) == 4


def test_a_link_to_the_artifact_of_another_step_is_replaced_and_the_other_stays(log, store):
    one, two = (step(make, value, log) for value in (1, 2))
    store.get(one)
    store.folder(two).symlink_to(store.folder(one))
    assert [store.get(s).metrics["value"] for s in (two, one)] == [2, 1]
    assert times_made(log) == 2


def test_a_link_to_the_artifact_on_another_disk_is_followed(log, store, tmp_path):
    s = step(make, 3, log)
    store.get(s)
    shutil.move(store.folder(s), tmp_path / "disk")
    store.folder(s).symlink_to(tmp_path / "disk")
    assert store.get(s).metrics == {"value": 3} and times_made(log) == 1


def other_stage(log, context):
    return {"y": torch.zeros(1)}, {"other": 1}


def test_the_artifact_of_another_stage_under_a_steps_name_is_made_anew(log, store, caplog):
    one, two = step(make, 3, log), step(other_stage, log)
    store.get(two)
    store.folder(one).parent.mkdir()
    store.folder(two).rename(store.folder(one))
    assert store.get(one).metrics == {"value": 3} and f"it is other_stage {two.key}" in caplog.text


def test_a_file_in_the_place_of_a_stages_folder_is_told_with_its_path(log, store):
    store.root.mkdir()
    (store.root / "make").touch()
    with pytest.raises(OSError) as refusal:
        store.get(step(make, 3, log))
    assert str(store.root / "make") in sentence(refusal.value) and not times_made(log)


def test_a_disk_that_fails_to_read_costs_no_artifact(log, store, monkeypatch):
    s = step(make, 3, log)
    store.get(s)

    def fails(self):
        raise OSError(24, "Too many open files", str(self))

    with monkeypatch.context() as broken, pytest.raises(OSError, match="Too many open files"):
        broken.setattr(Path, "read_bytes", fails)
        store.get(s)
    store.get(s)
    assert times_made(log) == 1


def test_the_same_step_writes_the_same_bytes_in_two_stores(log, tmp_path):
    folders = []
    for name in ("one", "two"):
        store = Store(tmp_path / name, CPU)
        store.get(step(make, 3, log))
        folders.append(store.folder(step(make, 3, log)))
    for name in (files.TENSORS, files.METRICS, files.SUMS):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def overflown(context):
    return {}, {"loss": math.inf}


def test_a_metric_that_is_not_finite_is_refused_by_the_stages_name(store):
    with pytest.raises(DataError, match="overflown has measured a number that is not finite"):
        store.get(step(overflown))
    assert not list((store.root / "overflown").iterdir())


def test_a_line_has_every_step_once_and_none_before_what_it_needs(log):
    a = step(make, 1, log)
    b, c = step(make, a, log), step(make, 2, a)
    assert line(step(make, b, c, a)) == [a, b, c, step(make, b, c, a)]


# kills, races and disks


def kill_before(n: int, root: Path) -> Callable:
    """An audit hook that ends the process before the n-th file operation below a folder."""
    operation, done = writing(root), []

    def hook(event, args):
        if operation(event, args):
            done.append(event)
            if len(done) == n:
                os._exit(9)

    return hook


@pytest.mark.parametrize("before", ["nothing", "a damaged artifact", "a file"])
def test_a_job_killed_before_any_single_file_operation_leaves_nothing_wrong(log, tmp_path, before):
    s = step(make, 3, log)
    for n in range(1, 100):
        store = Store(tmp_path / str(n), CPU)
        if before != "nothing":
            store.get(s)
            victim = store.folder(s)
            (victim / files.TENSORS).write_bytes(b"damaged")
            if before == "a file":
                shutil.rmtree(victim)
                victim.write_text("no artifact")
        status = in_child(lambda store=store: store.get(s), kill_before(n, store.root))
        made = times_made(log)
        for _ in range(2):
            assert store.get(s).metrics == {"value": 3}
        assert times_made(log) <= made + 1
        store.get(step(make, 4, log))  # another step of the stage tidies up
        assert sorted(p.name for p in (store.root / "make").iterdir()) == sorted(
            [s.key, step(make, 4, log).key]
        )
        if status == 0:
            break
        assert status == 9
    assert status == 0 and n > 10


@pytest.mark.parametrize("name", FILES)
def test_a_job_killed_in_the_middle_of_a_file_leaves_nothing_wrong(log, store, name):
    s, write = step(make, 3, log), Path.write_bytes

    def half(self, data):
        write(self, data[: len(data) // 2] if self.name == name else data)
        if self.name == name:
            os._exit(9)

    def cut():
        Path.write_bytes = half
        store.get(s)

    assert in_child(cut) == 9 and not store.has(s)
    assert store.get(s).metrics == {"value": 3}
    assert [p.name for p in (store.root / "make").iterdir()] == [s.key]


def slow(log, context):
    with open(log, "a") as f:
        f.write("made\n")
    time.sleep(1.0)
    return {"x": torch.zeros(1)}, {}


def get_slow(root, log):
    Store(root, CPU).get(step(slow, log))


def run_at_once(*jobs: Callable) -> list[int]:
    """Exit codes of functions that run in processes of their own at the same time."""
    started = [FORK.Process(target=job) for job in jobs]
    for job in started:
        job.start()
    for job in started:
        job.join(60)
        job.kill()
    return [job.exitcode for job in started]


def test_two_jobs_that_need_the_same_artifact_at_once_make_it_once(log, store):
    assert run_at_once(*[partial(get_slow, store.root, log)] * 2) == [0, 0]
    assert times_made(log) == 1


def test_two_jobs_without_locks_may_both_make_an_artifact_and_both_have_it(log, store, monkeypatch):
    def refuses(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", refuses)
    assert run_at_once(*[partial(get_slow, store.root, log)] * 3) == [0, 0, 0]
    assert times_made(log) == 3
    assert [p.name for p in (store.root / "slow").iterdir()] == [step(slow, log).key]
    store.get(step(slow, log))
    assert times_made(log) == 3


def test_a_job_killed_while_it_works_leaves_no_artifact_and_frees_the_lock(log, store):
    job = FORK.Process(target=get_slow, args=(store.root, log))
    job.start()
    while not times_made(log):
        time.sleep(0.01)
    os.kill(job.pid, signal.SIGKILL)
    job.join(60)
    assert not store.has(step(slow, log))
    get_slow(store.root, log)
    assert times_made(log) == 2 and store.has(step(slow, log))


def test_a_job_that_waits_for_a_lock_goes_on_when_the_artifact_is_there(log, store, tmp_path):
    s, elsewhere = step(make, 3, log), Store(tmp_path / "elsewhere", CPU)
    elsewhere.get(s)
    with files.sole_use(store.root / ".locks" / f"make-{s.key}", "make", lambda: False):
        job = FORK.Process(target=store.get, args=(s,))
        job.start()
        job.join(0.5)
        assert job.is_alive()
        shutil.copytree(elsewhere.root / "make", store.root / "make")
        job.join(60)
    assert job.exitcode == 0 and times_made(log) == 1


def test_a_write_that_fails_leaves_nothing_behind_and_names_the_path(log, store, monkeypatch):
    s, write = step(make, 3, log), Path.write_bytes

    def full(self, data):
        if self.name == "metrics.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # a full disk gives no name
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError) as refusal:
        store.get(s)
    assert re.search(r"cannot use .*metrics\.json: No space left", sentence(refusal.value))
    assert not store.has(s) and not list((store.root / "make").iterdir())


def test_a_store_that_cannot_take_an_artifact_is_told_before_the_work(log, store, monkeypatch):
    s, mkdir = step(make, 3, log), Path.mkdir

    def full(self, *how, **settings):
        if self.name.startswith(f".{s.key}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        mkdir(self, *how, **settings)

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(OSError) as refusal:
        store.get(s)
    assert sentence(refusal.value) == f"cannot use {store.folder(s)}: No space left on device"
    assert not times_made(log)


# progress


def progress(path: Path, key: str = "", before: float = 0.0) -> Scratch:
    return Scratch(path, seconds_between=0.0, key=key, before=before)


def test_the_seconds_of_a_stage_that_was_cut_off_count_all_its_runs(tmp_path):
    progress(tmp_path / "p", before=100.0).save(lambda: {"x": torch.zeros(1)})
    again = Scratch(tmp_path / "p")
    assert again.load().keys() == {"x"} and 100 <= again.seconds < 200


def test_progress_comes_back_as_it_was_saved_whatever_its_tensors_are_called(tmp_path):
    saved = {"seconds": torch.arange(3), "a/b.c": torch.tensor([[True]]), "x": torch.tensor(2.5)}
    progress(tmp_path / "p").save(lambda: saved)
    loaded = Scratch(tmp_path / "p").load()
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[n], t) and loaded[n].dtype == t.dtype for n, t in saved.items())


def test_progress_is_saved_no_more_often_than_asked(tmp_path):
    scratch, called = Scratch(tmp_path / "p", seconds_between=1000.0), []
    scratch.save(lambda: called.append(1) or {})
    scratch.saved -= 1001
    scratch.save(lambda: called.append(2) or {})
    scratch.save(lambda: called.append(3) or {})
    assert called == [2] and (tmp_path / "p").exists()


def bits_of_progress(path: Path) -> list[tuple[int, int]]:
    return [(place, 1 << place % 8) for place in range(path.stat().st_size)]


def test_progress_with_any_one_bit_flipped_is_ignored_with_one_line(tmp_path, caplog):
    path = tmp_path / "p"
    progress(path, before=5.0).save(lambda: {"x": torch.zeros(2)})
    whole = path.read_bytes()
    for place, bit in bits_of_progress(path):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        caplog.clear()
        scratch = Scratch(path)
        assert scratch.load() is None and scratch.before == 0
        assert len(caplog.records) == 1 and str(path) in caplog.text


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0])
def test_progress_that_took_no_sensible_time_is_ignored_with_one_line(tmp_path, caplog, seconds):
    progress(tmp_path / "p").save(lambda: {"x": torch.zeros(2)})
    data = (tmp_path / "p").read_bytes()[40:]
    (tmp_path / "p").write_bytes(sealed("", seconds, data))
    assert Scratch(tmp_path / "p").load() is None and len(caplog.records) == 1


@pytest.mark.parametrize(
    "like",
    [{"x": torch.zeros(3)}, {"x": torch.zeros(1, 2)}, {"x": torch.zeros(2), "y": torch.zeros(1)}],
)
def test_progress_of_other_shapes_than_wanted_is_ignored_with_one_line(tmp_path, caplog, like):
    progress(tmp_path / "p").save(lambda: {"x": torch.zeros(2), "z": torch.zeros(1)})
    assert Scratch(tmp_path / "p").load({"x": torch.ones(2)}) is not None and not caplog.records
    assert Scratch(tmp_path / "p").load(like) is None and len(caplog.records) == 1


def test_progress_of_another_step_is_ignored_with_one_line(tmp_path, caplog):
    progress(tmp_path / "p", "one").save(lambda: {"x": torch.zeros(2)})
    assert progress(tmp_path / "p", "two").load() is None and len(caplog.records) == 1
    assert progress(tmp_path / "p", "one").load() is not None


@pytest.mark.parametrize("there", ["text", "empty", "folder", "pipe", "link loop"])
def test_whatever_lies_in_the_place_of_progress_is_ignored_and_replaced(tmp_path, caplog, there):
    path = tmp_path / "p"
    if there in ("text", "empty"):
        path.write_text("no progress" * (there == "text"))
    elif there == "folder":
        path.mkdir()
    elif there == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    scratch = progress(path)
    assert scratch.load() is None and len(caplog.records) == 1
    scratch.save(lambda: {"x": torch.zeros(1)})
    assert scratch.load() is not None


def test_no_progress_is_no_event(tmp_path, caplog):
    assert Scratch(tmp_path / "p").load() is None and not caplog.records


def test_progress_that_cannot_be_saved_is_told_and_the_stage_goes_on(tmp_path, monkeypatch, caplog):
    def full(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    progress(tmp_path / "p").save(lambda: {"x": torch.zeros(1)})
    made = progress(tmp_path / "p").once("a", lambda: {"x": torch.ones(1)})
    assert made["x"] == 1 and not list(tmp_path.iterdir())
    assert caplog.text.count(f"progress is not saved: {tmp_path / 'p'}: No space left") == 1
    assert caplog.text.count("No space left") == 2


def in_parts(layers, fails_at, log, context):
    """A stage that scores layer by layer."""
    scores = {}
    for number, name in enumerate(layers):

        def layer(number=number, name=name):
            with open(log, "a") as f:
                f.write(f"{name}\n")
            if (log.path.parent / "fails").exists() and number == fails_at:
                raise KeyboardInterrupt
            return {"score": torch.full((2, 2), float(number)).T, "seconds": torch.tensor(number)}

        scores |= {f"{name}/{k}": t for k, t in context.scratch.once(name, layer).items()}
    return scores, {}


LAYERS = ["conv1", "block.0/conv", "ü" * 300, "fc"]


def test_a_stage_cut_off_in_a_part_goes_on_there_and_ends_as_if_undisturbed(log, tmp_path):
    cut, whole = Store(tmp_path / "cut", CPU), Store(tmp_path / "whole", CPU)
    s = step(in_parts, LAYERS, 2, log)
    (tmp_path / "fails").touch()
    with pytest.raises(KeyboardInterrupt):
        cut.get(s)
    (tmp_path / "fails").unlink()
    assert log.path.read_text().split() == LAYERS[:3]
    cut.get(s)
    assert log.path.read_text().split() == [*LAYERS[:3], *LAYERS[2:]]
    whole.get(s)
    for name in (files.TENSORS, files.METRICS):
        assert (cut.folder(s) / name).read_bytes() == (whole.folder(s) / name).read_bytes()
    assert [p.name for p in (cut.root / "in_parts").iterdir()] == [s.key]


def test_a_part_is_the_same_tensors_made_and_saved(tmp_path):
    odd = {"x": torch.arange(6.0, requires_grad=True).view(2, 3).T}
    first, again = (progress(tmp_path / "p").once("a", lambda: odd)["x"] for _ in range(2))
    for one in (first, again):
        assert torch.equal(one, odd["x"]) and one.is_contiguous() and not one.requires_grad


def test_a_part_is_never_taken_for_another_part_or_another_steps(tmp_path, caplog):
    one = progress(tmp_path / "p", "key")
    one.once("a", lambda: {"x": torch.zeros(1)})
    one.once("b", lambda: {"x": torch.ones(1)})
    a, b = sorted(tmp_path.iterdir())
    aside = a.rename(tmp_path / "aside")
    b.rename(a)
    aside.rename(b)
    again = progress(tmp_path / "p", "key").once("a", lambda: {"x": torch.full((1,), 7.0)})
    assert again["x"] == 7 and len(caplog.records) == 1
    other = progress(tmp_path / "p", "other").once("a", lambda: {"x": torch.full((1,), 8.0)})
    assert other["x"] == 8


def test_the_seconds_of_parts_that_were_loaded_count_once(tmp_path):
    first = progress(tmp_path / "p", before=100.0)
    for name in "abc":
        first.once(name, lambda: {"x": torch.zeros(1)})
    again = progress(tmp_path / "p")
    for name in "abc":
        again.once(name, lambda: {"x": torch.zeros(1)})
    assert 100 <= again.seconds < 200


def test_progress_left_half_written_is_not_in_the_way_of_the_artifact(log, store, monkeypatch):
    s = step(make, 3, log)
    scratch = progress(store.root / "make" / f".{s.key}.progress", s.key)
    scratch.path.parent.mkdir(parents=True)
    with monkeypatch.context() as killed:
        killed.setattr(Path, "replace", lambda *paths: None)
        killed.setattr(files, "remove", lambda path: None)
        scratch.save(lambda: {"x": torch.zeros(1)})
    assert len(list(scratch.path.parent.iterdir())) == 1
    store.get(s)
    assert store.has(s)


def test_what_killed_jobs_have_left_goes_when_a_stage_is_next_made(log, store):
    one, two = step(make, 3, log), step(make, 4, log)
    store.get(one)
    job = FORK.Process(target=os.getpid)
    job.start()
    job.join()
    tag = Path(files.beside(Path("x")).name.replace(str(os.getpid()), str(job.pid))).name[2:]
    for name in (f"{one.key}.progress", f"{two.key}{tag}/x", f"{two.key}.progress-{16 * '0'}{tag}"):
        left = store.root / "make" / f".{name}"
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_text("half")
    unfinished = store.root / "make" / f".{step(make, 5, log).key}.progress"
    unfinished.touch()
    store.get(two)
    expected = {one.key, two.key, unfinished.name}
    assert {p.name for p in (store.root / "make").iterdir()} == expected


# ranks

BARRIER = FORK.Barrier(2)


def together(log, context):
    """A stage that ends only if two processes are in it at once."""
    BARRIER.wait(30)
    context.scratch.once("part", lambda: {"x": torch.zeros(1)})
    return make(1, log, context)


together.collective = True


def after(before, log, context):
    return make(before.metrics["value"] + 1, log, context)


def ranks(store: Store, last: Callable, agreed: bool) -> list[int]:
    """Exit codes of two ranks that take a line of steps; rank 1 may not write to the store."""
    here, there = FORK.Pipe()

    def work(rank):
        agree = (lambda mine: here.send(mine) or mine, lambda _: there.recv())[rank]
        mine = Store(store.root, CPU, rank, agree if agreed else bool)
        found = [mine.get(s).metrics for s in line(last)]
        assert found == [store.get(s).metrics for s in line(last)]

    def follow():
        sys.addaudithook(kill_before(1, store.root))
        work(1)

    return run_at_once(partial(work, 0), follow)


def test_a_second_rank_waits_for_what_the_first_publishes_and_writes_nothing(log, store):
    last = step(slow, log)
    assert ranks(store, last, agreed=False) == [0, 0] and times_made(log) == 1


def test_two_ranks_take_a_collective_stage_in_step_and_any_other_once(log, store):
    last = step(after, step(together, log), log)
    assert ranks(store, last, agreed=True) == [0, 0]
    assert times_made(log) == 3  # twice by together, once by after
    assert ranks(store, last, agreed=True) == [0, 0] and times_made(log) == 3
