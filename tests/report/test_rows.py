"""Rows: seeds with other thread counts, and rounds."""

from __future__ import annotations

import pytest
from report.records import column, folder, lines, notes, record


def test_threads_have_no_column_where_all_are_equal(tmp_path, shown):
    text = shown(folder(tmp_path, record("gmi"), record("l1")))
    assert "threads" not in text


def test_threads_have_a_column_where_rows_differ_in_them(tmp_path, shown):
    text = shown(folder(tmp_path, record("gmi", threads=1), record("l1", threads=12)))
    assert lines(text)[0][:2] == ["pruner", "threads"]
    assert column(text, "threads") == ["1", "12"]
    assert "The number of threads changes results, and it was 1 and 12." in notes(text)


def test_seeds_of_several_thread_counts_are_one_row_that_is_named(tmp_path, shown):
    seeds = [record("gmi", seed=seed, threads=threads) for seed, threads in ((0, 12), (1, 2))]
    text = shown(folder(tmp_path, *seeds, record("l1", threads=2)))
    assert column(text, "accuracy.retrained (%)") == ["97.00 ± 0.00 (2)", "97.00 (1)"]
    assert column(text, "threads") == ["2, 12", "2"]
    said = "it was 2 and 12; seeds of several of them stand in one row: gmi, threads 2, 12."
    assert any(note.endswith(said) for note in notes(text))


def test_a_lone_row_of_several_thread_counts_is_named_too(tmp_path, shown):
    text = shown(folder(tmp_path, *(record(seed=seed, threads=seed + 1) for seed in (0, 1))))
    assert len(lines(text)) == 2 and "threads" not in lines(text)[0]
    assert any(note.endswith("stand in one row: gmi.") for note in notes(text))


def test_one_seed_with_two_thread_counts_is_two_rows(tmp_path, shown):
    made = [record(seed=seed, retrained=0.9 + threads / 100, threads=threads)
            for seed, threads in ((0, 1), (0, 2), (1, 2))]  # fmt: skip
    text = shown(folder(tmp_path, *made))
    assert column(text, "threads") == ["1", "2"]
    assert column(text, "accuracy.retrained (%)") == ["91.00 (1)", "92.00 ± 0.00 (2)"]


def test_the_thread_count_asked_for_is_no_setting(tmp_path, shown):
    made = [record(seed=seed) for seed in (0, 1)]
    made[1]["config"]["threads"] = 1
    assert len(lines(shown(folder(tmp_path, *made)))) == 2


@pytest.fixture
def rounds(tmp_path):
    """Two seeds of a pruner with three rounds, and one of another with a single round."""
    made = []
    for seed in (0, 1):
        each = [
            {
                "sparsity": {"total": share},
                "accuracy": {"pruned": share / 2, "retrained": 0.9 - seed / 100},
            }
            for share in (0.5, 0.75, 0.9)
        ]
        made.append(record("gmi", seed=seed, rounds=each))
    return folder(tmp_path, *made, record("l1", rounds=[{"sparsity": {"total": 0.9}}]))


def test_every_round_of_a_row_with_several_is_a_row(rounds, shown):
    text = shown(rounds, "--rounds")
    assert lines(text)[0] == [
        "round",
        "sparsity.total (%)",
        "accuracy.pruned (%)",
        "accuracy.retrained (%)",
    ]
    assert column(text, "round") == ["1", "2", "3"]
    assert column(text, "sparsity.total (%)") == [
        f"{s} ± 0.00 (2)" for s in ("50.00", "75.00", "90.00")
    ]
    assert column(text, "accuracy.retrained (%)") == ["89.50 ± 0.71 (2)"] * 3
    assert "pruner gmi" in text and "150,000 prunable weights" in text


def test_rounds_can_be_drawn_against_their_sparsity_as_one_line(rounds, shown, monkeypatch):
    from mint_cli.report import table

    drawn = {}
    monkeypatch.setattr(table, "draw", lambda path, lines, x, y: drawn.update(lines))
    options = ("--rounds", "--plot", "x.png", "--x", "sparsity.total", "--y", "accuracy.pruned")
    shown(rounds, *options)
    (points,) = drawn.values()
    assert [point[:2] for point in points] == [(50.0, 25.0), (75.0, 37.5), (90.0, 45.0)]


def test_without_several_rounds_there_is_nothing_to_list(tmp_path, failing):
    assert "no record here has several rounds" in failing(folder(tmp_path, record()), "--rounds")
