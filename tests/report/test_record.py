"""Reading: one record that is damaged or hostile costs that record, never the table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from report.records import column, folder, lines, notes, packed, predicted, record

from mint_cli.errors import DataError
from mint_cli.report import record as reading

ROOT = Path(__file__).parents[2]
DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000


def beside(root: Path, content: str | bytes) -> Path:
    """A good record, and another file ``record.json`` with this content."""
    folder(root, record())
    (root / "other").mkdir()
    content = content.encode() if isinstance(content, str) else content
    (root / "other" / "record.json").write_bytes(content)
    return root


def changed(**changes: object) -> str:
    """A record of another pruner with some values replaced, as JSON."""
    return json.dumps(record("l1", **changes))


DAMAGED = {
    "a number of 5,000 digits": changed().replace("150000", "9" * 5000),
    "a lone surrogate in a setting": changed(model="\ud800"),
    "a lone surrogate in a name": changed(seconds={"\ud800": 1.0}),
    "nesting that JSON refuses": changed().replace('"mlp"', DEEP, 1),
    "bytes that are no text": b"\xff\xfe\x00",
    "a list": "[]",
    "predictions that are not base64": changed(correct={"retrained": "?"}),
    "predictions that are not compressed": changed(correct={"retrained": "AAAA"}),
    "predictions of another accuracy": changed(correct={"retrained": packed([True, False])}),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_record_is_warned_of_by_path_and_the_rest_is_shown(tmp_path, warned, content):
    out, warnings = warned(beside(tmp_path, content))
    assert column(out, "accuracy.retrained (%)") == ["97.00 (1)"]
    assert len(warnings) == 1 and str(tmp_path / "other" / "record.json") in warnings[0]
    assert len(warnings[0]) < len(str(tmp_path)) + 300


@pytest.mark.parametrize("number", ["9" * 400, "NaN", "Infinity", "-Infinity", "1e400", "9" * 120])
def test_a_number_that_is_not_finite_is_a_dash_and_named(tmp_path, warned, number):
    out, warnings = warned(beside(tmp_path, changed().replace("0.97", number)))
    assert sorted(column(out, "accuracy.retrained (%)")) == ["97.00 (1)", "–"]
    assert len(warnings) == 1 and "accuracy.retrained" in warnings[0]
    assert str(tmp_path / "other" / "record.json") in warnings[0]


@pytest.mark.parametrize("number", ["9" * 400, "NaN", "-Infinity", "1e400"])
def test_a_setting_that_is_not_finite_is_shown_as_any_other(tmp_path, shown, number):
    content = changed().replace('"dropout": 0.2', f'"dropout": {number}')
    text = shown(beside(tmp_path, content), "--sort", "model.dropout")
    assert len(lines(text)) == 3


def test_a_file_too_large_for_a_record_is_not_read(tmp_path, warned):
    folder(tmp_path, record())
    (tmp_path / "other").mkdir()
    path = tmp_path / "other" / "record.json"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # a hole: no bytes on the disk
    out, warnings = warned(tmp_path)
    assert len(lines(out)) == 2 and len(warnings) == 1 and str(path) in warnings[0]


def pipe(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link(path: Path) -> None:
    path.symlink_to(path.parents[1])


@pytest.mark.parametrize("make", [pipe, loop, endless, Path.mkdir, link])
@pytest.mark.parametrize("name", ["record.json", "status.json"])
def test_what_is_no_file_neither_hangs_nor_stops_the_table(tmp_path, name, make):
    folder(tmp_path, record())
    (tmp_path / "other").mkdir()
    make(tmp_path / "other" / name)
    command = [sys.executable, "-m", "mint_cli.report.table", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and len(lines(done.stdout)) == 2
    named = str(tmp_path / "other" / name) in done.stderr
    assert named == (name == "record.json") and done.stderr.count("\n") == named


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    folder(tmp_path, record())

    def refuse(top, onerror):
        onerror(PermissionError(13, "Permission denied", str(tmp_path / "closed")))
        return iter([(str(tmp_path / "run0"), [], ["record.json"])])

    monkeypatch.setattr(os, "walk", refuse)
    records, _, warnings = reading.gather([tmp_path])
    assert len(records) == 1 and str(tmp_path / "closed") in warnings[0]


@pytest.mark.parametrize("name", ["x" * 5000, "\0", "loop"])
def test_a_path_that_no_system_takes_is_told_as_a_folder_that_is_not_there(tmp_path, name):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DataError, match="no folder"):
        reading.gather([tmp_path / name])


@pytest.mark.parametrize("state", ["failed", "interrupted", "running"])
def test_a_run_that_stopped_is_named_with_its_stage_and_reason(tmp_path, shown, state):
    folder(tmp_path, record())
    status = {"state": state, "stage": "score", "error": "disk\nfull"}
    (tmp_path / "run0" / "status.json").write_text(json.dumps(status))
    run = f"{tmp_path / 'run0'}: {state} in score (disk full)."
    assert f"Unfinished, without a record of its own: {run}" in notes(shown(tmp_path))


@pytest.mark.parametrize("content", ['{"state": "completed"}', '{"state": []}', "3", DEEP])
def test_a_run_that_is_finished_or_says_nothing_is_not_named(tmp_path, shown, content):
    folder(tmp_path, record())
    (tmp_path / "run0" / "status.json").write_text(content)
    assert "Unfinished" not in shown(tmp_path)


@pytest.mark.parametrize("right", [[1, 0, 1], [1] * 8, [1, 0] * 180, [0, 0, 0, 1, 1], [1] * 17])
def test_predictions_are_as_many_as_their_accuracy_says(tmp_path, right):
    folder(tmp_path, predicted(right))
    found = reading.read(tmp_path / "run0" / "record.json").correct["retrained"]
    bits = "".join(f"{byte:08b}" for byte in found.packed)[: found.images]
    assert [int(bit) for bit in bits] == right


def test_predictions_that_unpack_to_more_than_a_file_may_hold_are_damaged(monkeypatch):
    huge = packed([True] * 8000)
    assert reading.unpacked(huge, 1.0, "retrained").images == 8000
    monkeypatch.setattr(reading, "LARGEST", 900)
    with pytest.raises(ValueError, match="do not agree"):
        reading.unpacked(huge, 1.0, "retrained")
