"""What the benchmarks share."""

import json

import pytest

from benchmarks import machine


def test_a_measure_in_a_process_of_its_own_is_what_it_prints_last(tmp_path, monkeypatch):
    lines = 'import sys; print("noise"); print(\'{"given": "\' + sys.argv[1] + \'"}\')'
    (tmp_path / "speaking.py").write_text(lines)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert machine.alone("speaking", "word") == {"given": "word"}


def test_a_measure_that_fails_is_not_taken_for_a_result(tmp_path, monkeypatch):
    (tmp_path / "failing.py").write_text('print("{}"); raise SystemExit(3)')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(machine.subprocess.CalledProcessError):
        machine.alone("failing")


def test_the_first_run_of_a_repeated_work_is_not_measured():
    calls = []
    assert len(machine.repeated(3, lambda: calls.append(1))) == 3 and len(calls) == 4


def test_the_spread_is_how_far_the_slowest_lies_above_the_fastest():
    assert machine.spread([2.0, 3.0, 2.5]) == 0.5 and machine.spread([4.0]) == 0


def test_results_are_written_as_json_and_as_text_where_there_is_one(tmp_path):
    text = machine.table(["a", "b"], [["1", "2"]])
    machine.write(tmp_path / "new", "one", {"a": 1}, text)
    machine.write(tmp_path / "new", "two", {"a": 2})
    assert json.loads((tmp_path / "new/one.json").read_text()) == {"a": 1}
    assert (tmp_path / "new/one.md").read_text() == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    assert not (tmp_path / "new/two.md").exists()
