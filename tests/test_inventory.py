import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from commandline import ROOT

from mint_cli import files, inventory
from mint_cli.allocation.layer_quota import layer_quota
from mint_cli.dataset.digits import digits
from mint_cli.inventory import in_bytes, in_days, main
from mint_cli.model.mlp import mlp
from mint_cli.store import Step, Store, step


def train(dataset, model, seed, context):
    return {"x": torch.full((1000,), float(seed["seed"]))}, {}


def prune(allocation, seed, trained, context):
    return {"x": torch.zeros(10)}, {}


def evaluate(network, context):
    return {}, {}


def line(seed: int) -> tuple[Step, Step]:
    """A network and the pruned one made of it."""
    first = step(train, partial(digits, seed=9), partial(mlp, hidden=[4]), {"seed": seed})
    return first, step(prune, partial(layer_quota, estimator=partial(mlp)), seed, first)


@pytest.fixture
def store(tmp_path) -> Store:
    """Two lines, and a run whose record names the end of the first."""
    store = Store(tmp_path / "store", torch.device("cpu"))
    for seed in (1, 2):
        store.get(line(seed)[1])
    write_record(tmp_path / "runs" / "a", {"prune": line(1)[1].key})
    return store


def write_record(folder: Path, artifacts) -> Path:
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps({"artifacts": artifacts}))
    return folder / "record.json"


def there(store: Store) -> list[bool]:
    return [store.folder(s).exists() for seed in (1, 2) for s in line(seed)]


def grow_old(path: Path, days: float) -> None:
    os.utime(path, (time.time() - days * files.DAY,) * 2)


def everything(root: Path) -> dict[str, bytes | None]:
    found = {str(p): p.read_bytes() if p.is_file() else None for p in sorted(root.rglob("*"))}
    assert found
    return found


def test_list_shows_every_artifact_with_its_size_and_what_it_was_made_of(store, capsys):
    assert main(["list", str(store.root)]) == 0
    *rows, total = capsys.readouterr().out.splitlines()
    assert len(rows) == 4 and total.startswith("4 artifacts, ")
    found = {tuple(row.split()[:2]): row for row in rows}
    first, second = line(2)
    assert found["train", first.key].endswith("0 min  digits mlp seed=2")
    assert found["prune", second.key].endswith("layer_quota mlp digits seed=2")
    assert " 4." in found["train", first.key] and " kB " in found["train", first.key]


def test_list_goes_on_past_an_artifact_that_cannot_be_read(store, capsys):
    (store.folder(line(1)[1]) / files.METRICS).write_text("[")
    assert main(["list", str(store.root)]) == 0
    out = capsys.readouterr().out
    assert out.count("(cannot be read)") == 1 and "4 artifacts" in out


def test_list_writes_nothing(store):
    before = everything(store.root)
    main(["list", str(store.root)])
    assert everything(store.root) == before


def test_clean_without_options_removes_leftovers_alone(store, capsys):
    job = subprocess.Popen([sys.executable, "-c", ""])
    job.wait()
    key = line(1)[0].key
    aside = files.beside(store.root / "train" / ("0" * 24)).name
    dead = store.root / "train" / aside.replace(f".{os.getpid()}.", f".{job.pid}.")
    dead.mkdir()
    (dead / "x").write_text("half")
    (store.root / "train" / f".{key}.progress").touch()
    young, old = (store.root / "train" / f".{c * 24}.progress" for c in "ef")
    for path in (young, old):
        path.touch()
    grow_old(old, 2)
    lock, held = (store.root / ".locks" / f"train-{c * 24}" for c in "ef")
    lock.touch()
    held.touch()
    grow_old(lock, 2)
    main(["list", str(store.root)])
    assert "4 leftovers of killed jobs" in capsys.readouterr().out
    assert main(["clean", str(store.root)]) == 0
    out = capsys.readouterr().out
    assert all(there(store)) and young.exists() and held.exists() and out.count("removed ") == 4
    assert not any(p.exists() for p in (dead, old, lock)) and len(list(young.parent.iterdir())) == 3


def test_clean_removes_what_no_record_uses_and_keeps_what_a_used_one_was_made_of(
    store, tmp_path, capsys
):
    assert main(["clean", str(store.root), "--unused-by", str(tmp_path / "runs")]) == 0
    assert there(store) == [True, True, False, False]
    out = capsys.readouterr().out.splitlines()
    assert [part.split()[1] for part in out[:-1]] == [
        f"{s.name}/{s.key}" for s in reversed(line(2))
    ]
    assert all("unused" in row for row in out[:-1]) and out[-1].startswith("freed ")


def test_evaluations_of_used_networks_are_used_though_no_record_names_them(store, tmp_path):
    evaluations = {s.key: step(evaluate, s) for seed in (1, 2) for s in line(seed)}
    for s in evaluations.values():
        store.get(s)
    assert main(["clean", str(store.root), "--unused-by", str(tmp_path / "runs")]) == 0
    assert there(store) == [store.has(s) for s in evaluations.values()]
    assert there(store) == [True, True, False, False]


def test_records_of_all_folders_and_behind_links_count(store, tmp_path):
    write_record(tmp_path / "disk" / "b", {"train": [line(2)[0].key]})
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "more" / "loop").symlink_to(tmp_path / "more")
    folders = [str(tmp_path / "runs"), str(tmp_path / "more")]
    assert main(["clean", str(store.root), "--unused-by", *folders]) == 0
    assert there(store) == [True, True, True, False]


def test_a_dry_run_says_the_same_and_removes_nothing(store, tmp_path, capsys):
    (store.folder(line(1)[0]) / files.SUMS).unlink()
    options = ["clean", str(store.root), "--unused-by", str(tmp_path / "runs"), "--damaged"]
    before = everything(store.root)
    main([*options, "--dry-run"])
    said = capsys.readouterr().out
    assert everything(store.root) == before
    main(options)
    assert capsys.readouterr().out == said.replace("would remove", "removed").replace(
        "would free", "freed"
    )
    assert there(store) == [False, True, False, False]


def test_age_narrows_what_is_unused_and_alone_removes_all_that_is_old(store, tmp_path):
    for s in (line(1)[0], line(2)[0]):
        grow_old(store.folder(s), 3)
    options = ["clean", str(store.root), "--older-than", "2"]
    main([*options, "--unused-by", str(tmp_path / "runs")])
    assert there(store) == [True, True, False, True]
    main(options)
    assert there(store) == [False, True, False, True]


def test_clean_damaged_removes_what_a_run_would_make_anew_and_nothing_else(store, capsys):
    one, two = line(1)[0], line(2)[0]
    a, b = store.folder(one), store.folder(two)
    aside = a.rename(a.with_name("aside"))
    b.rename(a)
    aside.rename(b)
    (store.folder(line(1)[1]) / files.TENSORS).write_bytes(b"?")
    assert main(["clean", str(store.root), "--damaged"]) == 0
    assert there(store) == [False, False, False, True]
    assert f"damaged (it is train {two.key})" in capsys.readouterr().out


def test_clean_touches_nothing_that_is_not_laid_out_as_a_store(store, tmp_path):
    (store.folder(line(2)[0]) / "notes.txt").write_text("mine")
    foreign = [store.root / "README", store.root / "train" / "notes", store.root / "Mine" / "a"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        grow_old(path, 1000)
    link = store.root / "train" / ("a" * 24)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / files.SUMS).touch()
    link.symlink_to(tmp_path / "elsewhere")
    assert main(["clean", str(store.root), "--older-than", "0", "--damaged"]) == 0
    assert there(store) == [False, False, True, False]
    assert all(path.exists() for path in foreign)
    assert not link.is_symlink() and (tmp_path / "elsewhere" / files.SUMS).exists()


@pytest.mark.parametrize("command", ["list", "clean"])
@pytest.mark.parametrize("folder", ["missing", "empty", "cache", "file"])
def test_a_folder_that_is_no_store_is_refused_and_left_as_it_is(tmp_path, capsys, command, folder):
    (tmp_path / "empty").mkdir()
    (tmp_path / "cache" / ".locks").mkdir(parents=True)
    (tmp_path / "cache" / "objects" / "0123").mkdir(parents=True)
    (tmp_path / "file").touch()
    before = everything(tmp_path)
    options = ["--damaged", "--older-than", "0"] if command == "clean" else []
    assert main([command, str(tmp_path / folder), *options]) == 1
    assert str(tmp_path / folder) in capsys.readouterr().err and everything(tmp_path) == before


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2}', "[" * 100_000])
def test_a_record_that_does_not_say_what_it_uses_stops_all_removal(store, tmp_path, capsys, text):
    bad = write_record(tmp_path / "runs" / "b", {})
    bad.write_text(text)
    assert main(["clean", str(store.root), "--unused-by", str(tmp_path / "runs")]) == 1
    assert all(there(store)) and f"{bad} does not say what it uses" in capsys.readouterr().err


def test_a_record_that_is_a_pipe_stops_all_removal(store, tmp_path):
    (tmp_path / "runs" / "b").mkdir()
    os.mkfifo(tmp_path / "runs" / "b" / "record.json")
    assert main(["clean", str(store.root), "--unused-by", str(tmp_path / "runs")]) == 1
    assert all(there(store))


@pytest.mark.parametrize("runs", ["missing", "empty"])
def test_folders_without_records_stop_all_removal(store, tmp_path, capsys, runs):
    (tmp_path / "empty").mkdir()
    folders = [str(tmp_path / "runs"), str(tmp_path / runs)]
    assert main(["clean", str(store.root), "--unused-by", *folders]) == 1
    assert all(there(store)) and str(tmp_path / runs) in capsys.readouterr().err


@pytest.mark.parametrize("days", ["nan", "inf", "-1"])
def test_an_age_that_is_none_is_refused(store, capsys, days):
    assert main(["clean", str(store.root), f"--older-than={days}"]) == 1
    assert "--older-than must be a number of days from 0 on" in capsys.readouterr().err
    assert all(there(store))


def test_what_cannot_be_removed_is_told_in_one_sentence(store, monkeypatch, capsys):
    monkeypatch.setattr(files, "remove", lambda path: None)
    assert main(["clean", str(store.root), "--older-than", "0"]) == 1
    assert capsys.readouterr().err.strip().endswith("cannot be removed")


def test_a_terminal_that_cannot_write_a_name_still_gets_the_list(store):
    forged = json.dumps({"inputs": [{"plug-in": "mine.größe"}]})
    (store.folder(line(1)[1]) / files.METRICS).write_text(forged)
    strange = store.root.rename(store.root.with_name("stóre\udcff"))
    command = [sys.executable, "-m", "mint_cli.inventory", "clean", "missing\udcff\u2026"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    refused = subprocess.run(command, env=environment, capture_output=True, timeout=60)
    assert refused.returncode == 1 and refused.stderr.startswith(b"mint-store: there is no store")
    command[-2:] = ["list", os.fsencode(strange)]
    shown = subprocess.run(command, env=environment, capture_output=True, timeout=60)
    assert shown.returncode == 0 and b"gr\\xf6\\xdfe" in shown.stdout
    assert b"4 artifacts" in shown.stdout


def test_a_reader_that_has_seen_enough_is_no_error(store):
    command = [sys.executable, "-m", "mint_cli.inventory", "list", str(store.root)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command, env=environment, stdout=writer, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writer)
    assert done.returncode == 0 and not done.stderr


def test_listing_does_not_load_torch():
    code = "import sys, mint_cli.inventory; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2.5e12, "2.5 TB")]
)
def test_sizes_are_told_by_thousands(size, text):
    assert in_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(30, "0 min"), (3599, "60 min"), (7200, "2 h"), (172800, "2 d")]
)
def test_ages_are_told_in_the_unit_that_fits(seconds, text):
    assert in_days(seconds) == text


def test_an_artifact_needed_by_a_damaged_description_is_not_looked_for_forever(store):
    known = inventory.artifacts(store.root)
    entry = known[line(1)[1].key]
    forged = json.dumps({"inputs": [{"step": entry.key}, {"step": ["x"]}, {"step": "x"}]})
    (entry.path / files.METRICS).write_text(forged)
    assert inventory.with_needed({entry.key}, known) == [entry.key, "x"]
