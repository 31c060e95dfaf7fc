"""What stands below a table: what ± covers, and zeros that no mask made."""

from __future__ import annotations

import pytest
from report.records import column, folder, lines, notes, record

from mint_cli.report.columns import named, telling
from mint_cli.report.rows import Row

ONLY = "it covers samples, calibration and masks only, not training"


def started(seed: int, pruner: str = "gmi") -> dict:
    """A record that starts from a checkpoint."""
    made = record(pruner, seed=seed, checkpoint="ab" * 32)
    made["config"]["checkpoint"] = "dense.pt"
    return made


def spread(text: str) -> str:
    """The note that says what ± covers."""
    (found,) = [note for note in notes(text) if "±" in note or "one seed" in note]
    return found


def test_seeds_that_were_trained_say_that_their_spread_covers_training(tmp_path, shown):
    said = spread(shown(folder(tmp_path, *(record(seed=seed) for seed in range(3)))))
    assert said.startswith("± is the sample standard deviation over 3 seeds: it covers training")


def test_seeds_that_start_from_one_checkpoint_say_that_theirs_does_not(tmp_path, shown):
    said = spread(shown(folder(tmp_path, *(started(seed) for seed in range(3)))))
    assert (
        said == f"± is the sample standard deviation over 3 seeds, all from one checkpoint: {ONLY}."
    )


def test_rows_of_either_kind_and_of_unequal_seeds_say_so(tmp_path, shown):
    trained = [record("l1", seed=seed) for seed in range(3)]
    said = spread(shown(folder(tmp_path, started(0), started(1), *trained)))
    assert f"over seeds, their number in brackets; from a checkpoint {ONLY}." in said


def test_rows_of_one_seed_say_that_nothing_is_known_of_others(tmp_path, shown):
    assert spread(shown(folder(tmp_path, record()))).startswith("Every row is one seed")


def zeros(pruner: str, share: float) -> dict:
    """A record whose network is 0 in this share of all weights; masks removed .25."""
    made = record(pruner)
    made["sparsity"]["zeros"] = share
    return made


@pytest.mark.parametrize("share", [0.2502, 0.2498])
def test_zeros_have_a_column_where_a_network_has_others_than_its_masks_made(tmp_path, shown, share):
    text = shown(folder(tmp_path, zeros("gmi", 0.25), zeros("l1", share)))
    assert column(text, "sparsity.zeros (%)") == ["25.00 (1)", f"{100 * share:.2f} (1)"]
    assert any(note.startswith("sparsity.zeros is the share") for note in notes(text))


def test_zeros_have_no_column_where_the_masks_made_them_all(tmp_path, shown):
    made = [zeros("gmi", 0.25), zeros("l1", 0.25005), record("random")]
    assert "zeros" not in shown(folder(tmp_path, *made))


def test_a_setting_that_all_rows_have_is_shown_before_one_that_some_lack():
    settings = [{"a.b": "1", "a.long": "x"}, {"a.b": "2", "a.long": "y"}, {"a.long": "z"}]
    assert telling([Row(one, {}) for one in settings]) == ["a.long"]


def test_a_setting_that_some_rows_lack_is_shown_where_nothing_else_tells_them_apart():
    rows = [Row({"a": "1", "b.inputs": "dense"}, {}), Row({"a": "1", "b.inputs": "pruned"}, {})]
    assert telling([*rows, Row({"a": "2"}, {})]) == ["a", "b.inputs"]


def test_a_row_is_named_by_what_it_has_of_some_settings():
    row = Row({"pruner": "gmi", "pruner.groups": "20"}, {})
    assert named(row, ["pruner", "pruner.groups", "seconds"]) == "gmi, groups 20"
    assert named(row, []) == "gmi"


def test_more_names_than_fit_are_counted(tmp_path, shown):
    made = [record() for _ in range(2)]
    for one, value in zip(made, (1, 2), strict=True):
        one["config"]["model"] |= {f"v{i}": value if i else 0.5 for i in range(3)}
        one["config"]["other"] = {f"w{i}": value * (i + 2) for i in range(9)}
    text = shown(folder(tmp_path, *made), "--columns", "seconds")
    (said,) = [note for note in notes(text) if note.startswith("Without a column")]
    assert said.endswith("; and 4 more.") and len(lines(text)) == 3
