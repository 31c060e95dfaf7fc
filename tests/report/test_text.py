"""Layout: what a record says cannot leave its cell, and any stream can take it."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from report.records import column, folder, notes, predicted, record

ROOT = Path(__file__).parents[2]
FORMATS = ("markdown", "csv", "latex")


def spoken(root: Path, *options: str, **environment: str) -> subprocess.CompletedProcess:
    """The command in a process of its own, with its output as bytes."""
    command = [sys.executable, "-m", "mint_cli.report.table", str(root), *options]
    own = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LC_", "LANG"))}
    return subprocess.run(command, cwd=ROOT, env=own | environment, capture_output=True, timeout=60)


@pytest.mark.parametrize("words", ["=1+1", "+cmd|' /C'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_computes_no_text_of_a_record(tmp_path, shown, words):
    by_value = [record(words), record("l1")]
    by_name = [record(), record()]
    by_name[0]["config"][words], by_name[1]["config"][words] = "x", "y"
    for place, made in (("value", by_value), ("name", by_name)):
        text = shown(folder(tmp_path / place, *made), "--format", "csv")
        cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
        assert not [cell for cell in cells if cell.lstrip().startswith(("=", "+", "-", "@"))]
        assert [cell.strip(" '") for cell in cells if cell.startswith("'")] == [words.strip()]


@pytest.mark.parametrize("number", [-1, -0.5, "-3", "+4", -1e-9])
def test_numbers_stay_numbers_in_csv(tmp_path, shown, number):
    made = [record(), record()]
    made[0]["config"]["model"]["dropout"] = number
    text = shown(folder(tmp_path, *made), "--format", "csv")
    values = [row["model.dropout"] for row in csv.DictReader(io.StringIO(text))]
    assert float(number) in [float(value) for value in values]


def test_a_negative_number_measured_is_no_text(tmp_path, shown):
    made = record(retrained=0.99)  # the dense network has .98
    text = shown(folder(tmp_path, made), "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(text))
    assert float(row["drop.mean"]) == pytest.approx(-0.01)


def test_markdown_shows_what_would_be_html_as_it_is(tmp_path, shown):
    text = shown(folder(tmp_path, record("<img src=x onerror=alert(1)>&lt;"), record("l1")))
    assert "<" not in text and ">" not in text
    assert column(text, "pruner")[0] == "&lt;img src=x onerror=alert(1)&gt;&amp;lt;"


@pytest.mark.parametrize(
    "end", ["\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"]
)
@pytest.mark.parametrize("form", FORMATS)
def test_a_line_end_in_a_record_ends_no_line(tmp_path, shown, end, form):
    bad, good = (
        folder(tmp_path / n, record(f"a{e}| b"), record("l1")) for n, e in (("b", end), ("g", " "))
    )
    assert len(shown(bad, "--format", form).splitlines()) == len(
        shown(good, "--format", form).splitlines()
    )


def test_control_characters_reach_no_terminal(tmp_path, warned):
    folder(tmp_path, record("a\x1b[2Jb"), record("l1"))
    (tmp_path / "x\x1b[2J\ny").mkdir()
    (tmp_path / "x\x1b[2J\ny" / "record.json").write_text("{}")
    out, warnings = warned(tmp_path)
    assert "\x1b" not in out + "".join(warnings) and len(warnings) == 1


@pytest.mark.parametrize("words", ["a|b", r"a\|b", "a\\", "|", r"\\|"])
def test_a_cell_of_markdown_ends_where_it_should(tmp_path, shown, words):
    text = shown(folder(tmp_path, record(words), record("l1")))
    table = [line for line in text.splitlines() if line.startswith("|")]
    split = [re.findall(r"(?:\\.|[^|\\])+", line) for line in table]  # as GitHub splits them
    assert len({len(cells) for cells in split}) == 1
    cell = next(c for c in (row[0].strip() for row in split[2:]) if c != "l1")
    assert re.sub(r"\\(.)", r"\1", cell) == words


def test_notes_are_escaped_as_cells_are(tmp_path, shown):
    made = record(schedule="<b>|&")
    assert any("&lt;b&gt;\\|&amp;" in note for note in notes(shown(folder(tmp_path, made))))
    text = shown(tmp_path, "--format", "latex")
    assert r"schedule $<$b$>$|\&" in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "utf-16"])
@pytest.mark.parametrize("form", FORMATS)
def test_any_stream_takes_any_table(tmp_path, encoding, form):
    made = [predicted([s, 1, 1, 0], pruner=p, seed=s) for s in (0, 1) for p in ("日本 –×", "l1")]
    folder(tmp_path, *made)
    (tmp_path / "é日").mkdir()
    (tmp_path / "é日" / "record.json").write_text("{}")
    done = spoken(tmp_path, "--format", form, PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    out = done.stdout.decode(encoding)
    assert "l1" in out and done.stderr.decode(encoding).count("record.json") == 1
    if form == "markdown" and encoding == "ascii":
        assert "+/-" in out and "\\\\" not in out.replace("\\u65e5", "").replace("\\u672c", "")


def test_the_c_locale_takes_a_table(tmp_path):
    folder(tmp_path, record(seed=0), record(seed=1))
    done = spoken(tmp_path, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0 and done.stdout.decode("ascii")


@pytest.mark.parametrize("option", ["--help", "--format=…"])
def test_any_stream_takes_the_usage(tmp_path, option):
    done = spoken(tmp_path, option, PYTHONIOENCODING="ascii:strict")
    assert b"usage: mint-table" in done.stdout + done.stderr and b"Traceback" not in done.stderr


def test_a_folder_whose_name_is_no_text_is_read_and_named(tmp_path):
    place = os.fsencode(tmp_path) + b"/\xff\xfe"
    os.mkdir(place)
    with open(place + b"/record.json", "w") as file:
        file.write("{}")
    folder(tmp_path, record())
    (tmp_path / "run0" / "status.json").write_text('{"state": "failed", "error": "\\ud800"}')
    done = spoken(tmp_path)
    assert done.returncode == 0 and b"record.json" in done.stderr and b"failed" in done.stdout
    assert spoken(tmp_path, "--output", str(tmp_path / "t.md")).returncode == 0
    assert "failed" in (tmp_path / "t.md").read_text()


def test_costs_are_shown_in_units_of_a_readable_size(tmp_path, shown):
    own = record()
    latency = {"batch_128": {"median": 12.34, "passes": 9}}
    own["cost"] = {"dense": {"macs": 125_485_696, "bytes": 3_400_000, "latency": latency}}
    names = ("macs", "bytes", "latency.batch_128.median")
    columns = ",".join(f"cost.dense.{name}" for name in names)
    text = shown(folder(tmp_path, own), "--columns", columns)
    assert column(text, "cost.dense.macs (millions)") == ["125.49 (1)"]
    assert column(text, "cost.dense.bytes (MB)") == ["3.40 (1)"]
    assert column(text, "cost.dense.latency.batch_128.median (ms)") == ["12.3 (1)"]
