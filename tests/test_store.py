import errno
import logging
import multiprocessing
import os
import re
import signal
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import torch

from mint_cli.allocation.layer_quota import layer_quota
from mint_cli.errors import sentence
from mint_cli.store import Scratch, Store, fingerprint, step

CPU = torch.device("cpu")


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


def plugin(*, a, b):
    return a, b


def test_a_finished_step_is_loaded_and_not_taken_again(tmp_path):
    log, store = Log(tmp_path / "log"), Store(tmp_path / "store", CPU)
    first, second = (store.get(step(make, 3, log)) for _ in range(2))
    assert times_made(log) == 1
    assert torch.equal(first.tensors["x"], second.tensors["x"]) and first.metrics == second.metrics == {"value": 3}


def test_the_key_of_a_step_is_what_it_was_when_the_format_was_fixed():
    """Stored artifacts stay valid as long as this key stands; a change of meaning raises store.FORMAT instead."""
    assert fingerprint("train", partial(layer_quota, sparsity=0.5, of="all"), 7) == "f24b586b186122fa9ee708f2"


def test_the_key_changes_with_every_setting_and_with_nothing_else(tmp_path):
    def key(a=1, b=2.0, seed=0, path="x"):
        return step(make, partial(plugin, a=a, b=b), seed, Log(Path(path))).key

    assert key() == key(path="elsewhere")
    assert len({key(), key(a=2), key(b=2.5), key(seed=1)}) == 4


@pytest.mark.parametrize("name", ["tensors.safetensors", "metrics.json"])
@pytest.mark.parametrize("damage", ["truncate", "alter", "remove"])
def test_a_damaged_artifact_is_noticed_and_made_anew(tmp_path, caplog, name, damage):
    log, store = Log(tmp_path / "log"), Store(tmp_path / "store", CPU)
    s = step(make, 3, log)
    store.get(s)
    victim = store.folder(s) / name
    data = bytearray(victim.read_bytes())
    if damage == "remove":
        victim.unlink()
    else:
        data[len(data) // 2] ^= 1
        victim.write_bytes(data[: len(data) // 2] if damage == "truncate" else data)
    with caplog.at_level(logging.WARNING):
        again = store.get(s)
    assert times_made(log) == 2 and "damaged" in caplog.text
    assert torch.equal(again.tensors["x"], torch.full((3,), 3.0))


def test_a_disk_that_fails_to_read_costs_no_artifact(tmp_path, monkeypatch):
    log, store = Log(tmp_path / "log"), Store(tmp_path / "store", CPU)
    s = step(make, 3, log)
    store.get(s)

    def fails(self):
        raise OSError(24, "Too many open files", str(self))

    with monkeypatch.context() as broken, pytest.raises(OSError, match="Too many open files"):
        broken.setattr(Path, "read_bytes", fails)
        store.get(s)
    store.get(s)
    assert times_made(log) == 1


def test_the_seconds_of_a_stage_that_was_cut_off_count_all_its_runs(tmp_path):
    first = Scratch(tmp_path / "progress", seconds_between=0.0, began=time.perf_counter() - 100)
    first.save(lambda: {"x": torch.zeros(1)})
    again = Scratch(tmp_path / "progress")
    assert again.load().keys() == {"x"} and 100 <= again.seconds < 200


def test_progress_left_half_written_is_not_in_the_way_of_the_artifact(tmp_path, monkeypatch):
    """A process that was killed while it saved leaves a file, and the next may have the same number."""
    store, s = Store(tmp_path / "store", CPU), step(make, 3, Log(tmp_path / "log"))
    scratch = Scratch(store.root / s.name / f".{s.key}.progress", seconds_between=0.0)
    scratch.path.parent.mkdir(parents=True)
    monkeypatch.setattr(Path, "replace", lambda *paths: None)
    scratch.save(lambda: {"x": torch.zeros(1)})
    monkeypatch.undo()
    assert len(list(scratch.path.parent.iterdir())) == 1
    store.get(s)
    assert store.has(s)


def test_the_same_step_writes_the_same_bytes_in_two_stores(tmp_path):
    folders = []
    for name in ("one", "two"):
        store = Store(tmp_path / name, CPU)
        s = step(make, 3, Log(tmp_path / "log"))
        store.get(s)
        folders.append(store.folder(s))
    for name in ("tensors.safetensors", "metrics.json", "checksums.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def slow(log, context):
    with open(log, "a") as f:
        f.write("made\n")
    time.sleep(1.0)
    return {"x": torch.zeros(1)}, {}


def get_slow(root, log):
    Store(root, CPU).get(step(slow, log))


def test_two_jobs_that_need_the_same_artifact_at_once_make_it_once(tmp_path):
    log, spawn = Log(tmp_path / "log"), multiprocessing.get_context("fork")
    jobs = [spawn.Process(target=get_slow, args=(tmp_path / "store", log)) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    assert [job.exitcode for job in jobs] == [0, 0] and times_made(log) == 1


def test_a_job_killed_while_it_works_leaves_no_artifact_and_frees_the_lock(tmp_path):
    log, root = Log(tmp_path / "log"), tmp_path / "store"
    job = multiprocessing.get_context("fork").Process(target=get_slow, args=(root, log))
    job.start()
    while not times_made(log):
        time.sleep(0.01)
    os.kill(job.pid, signal.SIGKILL)
    job.join(60)
    assert not Store(root, CPU).has(step(slow, log))
    get_slow(root, log)
    assert times_made(log) == 2 and Store(root, CPU).has(step(slow, log))


def test_a_write_that_fails_leaves_nothing_behind_and_names_the_path(tmp_path, monkeypatch):
    store, s = Store(tmp_path / "store", CPU), step(make, 3, Log(tmp_path / "log"))
    write = Path.write_bytes

    def full(self, data):
        if self.name == "metrics.json":
            raise OSError(28, "No space left on device", str(self))
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"metrics\.json"):
        store.get(s)
    assert not store.has(s) and not [p for p in (tmp_path / "store" / "make").iterdir()]


def full(path, data):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a write to a full disk: without a name


def test_a_full_disk_is_told_with_the_file_and_leaves_nothing_behind(tmp_path, monkeypatch):
    store, s = Store(tmp_path / "store", CPU), step(make, 3, Log(tmp_path / "log"))
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError) as refusal:
        store.get(s)
    assert re.search(r"cannot use .*tensors.safetensors: No space left", sentence(refusal.value))
    assert not list((store.root / s.name).iterdir())


def test_progress_that_cannot_be_saved_is_told_and_the_stage_goes_on(tmp_path, monkeypatch, caplog):
    scratch = Scratch(tmp_path / "progress", seconds_between=0.0)
    monkeypatch.setattr(Path, "write_bytes", full)
    scratch.save(lambda: {"x": torch.zeros(1)})
    assert "progress is not saved" in caplog.text and "No space left" in caplog.text and not list(tmp_path.iterdir())


def test_what_killed_jobs_have_left_of_an_artifact_goes_when_it_is_made(tmp_path):
    store, s = Store(tmp_path / "store", CPU), step(make, 3, Log(tmp_path / "log"))
    for name in ("progress", "progress.99", "98/tensors.safetensors"):
        left = store.root / s.name / f".{s.key}.{name}"
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_text("half")
    store.get(s)
    assert [p.name for p in (store.root / s.name).iterdir()] == [s.key]
