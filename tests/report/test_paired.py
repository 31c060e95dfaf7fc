"""Paired tests: against SciPy, against counting, and what the table makes of them."""

from __future__ import annotations

import csv
import io
import itertools

import numpy as np
import pytest
from report.records import column, folder, lines, notes, predicted
from scipy.stats import binomtest

from mint_cli.report.paired import compare, exact, holm

IMAGES = 1000


def right(wrong: range) -> list[bool]:
    """Predictions of all images, wrong on some."""
    return [image not in wrong for image in range(IMAGES)]


@pytest.mark.parametrize(
    "counts", [(0, 0), (0, 1), (3, 9), (10, 10), (25, 60), (0, 1200), (900, 700)]
)
def test_p_is_that_of_the_exact_binomial_test(counts):
    better, worse = counts
    won = np.repeat([1, -1, 0], [better, worse, 50])
    expected = binomtest(better, better + worse).pvalue if any(counts) else 1.0
    assert exact(won) == exact(-won) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_p_of_several_seeds_is_the_share_of_all_ways_to_swap_images_that_differ_as_much(seeds):
    won = np.random.default_rng(seeds).integers(-seeds, seeds + 1, 12) + np.eye(12, dtype=int)[0]
    ways = np.array(list(itertools.product([1, -1], repeat=12))) @ won
    assert exact(won) == pytest.approx((np.abs(ways) >= abs(won.sum())).mean())


def test_p_of_one_seed_is_mcnemars_and_the_difference_is_that_of_the_accuracies():
    ours, theirs = np.array([right(range(0, 30))]), np.array([right(range(20, 100))])
    found = compare(ours, theirs)
    assert found.p == pytest.approx(binomtest(20, 20 + 70).pvalue)
    assert found.mean == pytest.approx(ours.mean() - theirs.mean())
    assert (found.seeds, found.images) == (1, IMAGES)


def test_the_interval_of_one_seed_is_that_of_agresti_and_min():
    found = compare(np.array([right(range(0, 30))]), np.array([right(range(20, 100))]))
    better, worse, n = 70 + 0.5, 20 + 0.5, IMAGES + 2
    middle = (better - worse) / n
    half = 1.959964 * (better + worse - (better - worse) ** 2 / n) ** 0.5 / n
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half))


def test_seeds_that_say_the_same_count_once():
    ours, theirs = right(range(0, 30)), right(range(20, 100))
    one, three = (compare(np.array([ours] * n), np.array([theirs] * n)) for n in (1, 3))
    assert three[:4] == pytest.approx(one[:4]) and three.seeds == 3


def test_an_image_counts_by_the_seeds_in_which_it_was_won():
    ours = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [0, 1, 0, 1]])
    theirs = np.array([[0, 1, 1, 0], [0, 0, 1, 0], [1, 0, 0, 0]])
    found = compare(ours, theirs)
    assert found.p == exact(np.array([1, 1, -2, 3])) == pytest.approx(10 / 16)
    assert found.mean == pytest.approx(3 / 12)


def test_the_interval_covers_the_true_difference_about_95_times_in_100():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(1000):
        cells = rng.choice(4, size=400, p=(0.7, 0.12, 0.08, 0.1))  # both, ours, theirs, none
        found = compare(np.isin(cells, (0, 1))[None], np.isin(cells, (0, 2))[None])
        covered += found.low <= 0.04 <= found.high
    assert 930 <= covered <= 970


def test_holm_multiplies_by_the_comparisons_left_and_never_falls():
    assert holm([0.01, 0.04, 0.03, 0.9]) == pytest.approx([0.04, 0.09, 0.09, 0.9])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []


@pytest.fixture
def three(tmp_path):
    """The best row, one that 1,000 images do not separate from it and one that they do."""
    wrongs = {"best": range(0, 30), "close": range(10, 43), "far": range(0, 90)}
    return folder(tmp_path, *(predicted(right(w), pruner=name) for name, w in wrongs.items()))


def test_every_row_stands_beside_the_best_one(three, shown):
    text = shown(three, "--paired")
    assert column(text, "pruner") == ["close", "far"]
    assert column(text, "compared with") == ["best", "best"]
    assert column(text, "separated") == ["no", "yes"]
    assert column(text, "difference (points)") == ["-0.30 (1)", "-6.00 (1)"]
    assert column(text, "images") == ["1000", "1000"]
    p = binomtest(10, 23).pvalue
    assert column(text, "p") == [f"{p:.4f}", "0.0000"]
    assert all(word in " ".join(notes(text)) for word in ("McNemar", "Holm", "95 %", "best row"))


def test_csv_has_the_difference_and_its_interval_in_full(three, shown):
    rows = list(csv.DictReader(io.StringIO(shown(three, "--paired", "--format", "csv"))))
    assert float(rows[0]["difference.mean"]) == pytest.approx(-0.003)
    low, high = (float(rows[0][f"difference.{end}.mean"]) for end in ("low", "high"))
    assert low < -0.003 < 0 < high


def test_below_a_table_stand_the_rows_that_are_not_separated_from_the_best(three, shown):
    (said,) = [note for note in notes(shown(three)) if "--paired" in note]
    assert said.endswith("can be seen of: close.") and "accuracy.retrained" in said


def test_below_a_table_of_separated_rows_it_says_so(three, shown):
    (said,) = [
        note for note in notes(shown(three, "--where", "pruner=best,far")) if "paired" in note
    ]
    assert "all rows but the best" in said and said.endswith("are separated from it.")


def test_rounds_are_not_compared_by_what_the_last_one_got_right(tmp_path, shown):
    each = [{"accuracy": {"retrained": 0.9}}, {"accuracy": {"retrained": 0.8}}]
    made = [predicted(right(range(n)), pruner=f"p{n}") | {"rounds": each} for n in (30, 33)]
    assert "--paired" not in shown(folder(tmp_path, *made), "--rounds")
    assert "--paired" in shown(tmp_path)


def test_a_table_without_the_accuracy_says_nothing_of_it(three, shown):
    assert "--paired" not in shown(three, "--columns", "pruner,seconds")


def test_several_comparisons_are_corrected(tmp_path, shown):
    worse = [predicted(right(range(start, start + 35)), pruner=f"p{start}") for start in range(3)]
    alone = right(range(100, 118))  # p of 18 against 35 images is .027, of three times that .08
    folder(tmp_path, predicted(alone, pruner="best"), *worse)
    text = shown(tmp_path, "--paired", "--where", "pruner=best,p0")
    assert column(text, "separated") == ["yes"]
    assert column(shown(tmp_path, "--paired"), "separated") == ["no", "no", "no"]


def test_seeds_are_paired_with_the_same_seeds(tmp_path, shown):
    both = [predicted(right(range(s, s + 30)), pruner="best", seed=s) for s in (0, 1)]
    other = [predicted(right(range(s, s + 90)), pruner="l1", seed=s) for s in (1, 2)]
    text = shown(folder(tmp_path, *both, *other), "--paired")
    assert column(text, "difference (points)") == ["-6.00 (1)"]


OTHERS = {
    "seed": {"seed": 1},
    "dataset": {"dataset": "digits"},
    "model": {"model": "lenet5"},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_rows_without_a_seed_data_set_and_model_in_common_are_not_compared(
    tmp_path, shown, failing, other
):
    one = predicted(right(range(30)), pruner="p30")
    folder(tmp_path, one, predicted(right(range(90)), pruner="p90", **other))
    assert "no two rows" in failing(tmp_path, "--paired")
    assert "--paired" not in shown(tmp_path)


@pytest.mark.parametrize("seeds", [{"seed": 1}, {"dataset": 1}])
def test_another_seed_of_the_run_or_of_the_data_is_another_seed(tmp_path, failing, seeds):
    one, two = (predicted(right(range(n)), pruner=f"p{n}") for n in (30, 90))
    two["seed"] = seeds.get("seed", 0)
    two["config"]["dataset"]["seed"] = seeds.get("dataset", 0)
    assert "no two rows" in failing(folder(tmp_path, one, two), "--paired")


def settings(path: str, value: object) -> list[dict]:
    """Two records, the second with another value of one setting."""
    made = [predicted(right(range(n)), pruner=f"p{n}") for n in (30, 90)]
    owner, _, name = path.rpartition(".")
    for one, found in zip(made, (None, value), strict=True):
        if found is not None:
            (one["config"][owner] if owner else one["config"])[name] = found
    return made


@pytest.mark.parametrize(("path", "value"), [("pruner.sparsity", 0.8), ("pruner.of", "all")])
def test_rows_of_another_sparsity_are_not_compared(tmp_path, failing, path, value):
    assert "no two rows" in failing(folder(tmp_path, *settings(path, value)), "--paired")


def test_rows_of_another_checkpoint_are_not_compared(tmp_path, failing):
    made = settings("checkpoint", "a.pt")
    made[1]["checkpoint"] = "ab" * 32
    assert "no two rows" in failing(folder(tmp_path, *made), "--paired")


def test_rows_of_a_threshold_are_compared_where_they_reach_the_same_sparsity(
    tmp_path, failing, shown
):
    for reached, place in ((0.25, "a"), (0.35, "b")):
        made = settings("pruner.sparsity", None)
        for one in made:
            one["config"]["pruner"]["sparsity"] = None
        made[1]["sparsity"]["of_all_weights"] = reached
        folder(tmp_path / place, *made)
    assert column(shown(tmp_path / "a", "--paired"), "pruner") == ["p90"]
    assert "no two rows" in failing(tmp_path / "b", "--paired")


def test_other_test_images_are_not_compared(tmp_path, failing):
    made = [predicted([True, False] * n, pruner=f"p{n}") for n in (30, 50)]
    assert "no two rows" in failing(folder(tmp_path, *made), "--paired")


def test_the_accuracy_to_compare_can_be_chosen(tmp_path, shown, failing):
    made = [predicted(right(range(n)), state="pruned", pruner=f"p{n}") for n in (30, 90)]
    folder(tmp_path, *made)
    assert column(shown(tmp_path, "--paired", "accuracy.pruned"), "pruner") == ["p90"]
    assert "accuracy.retrained" in failing(tmp_path, "--paired")


@pytest.mark.parametrize("option", [["--published"], ["--rounds"], ["--columns", "pruner"]])
def test_a_paired_table_refuses_what_belongs_to_another(three, capsys, option):
    from mint_cli.report.table import main

    with pytest.raises(SystemExit):
        main([str(three), "--paired", *option])
    assert f"without {option[0]}" in capsys.readouterr().err


def test_records_without_predictions_stand_in_the_table_and_in_no_comparison(tmp_path, shown):
    made = [predicted(right(range(n)), pruner=f"p{n}") for n in (30, 90)]
    bare = predicted(right(range(50)), pruner="p50")
    del bare["correct"]
    text = shown(folder(tmp_path, *made, bare))
    assert len(lines(text)) == 4 and "all rows but the best" in text
    assert column(shown(tmp_path, "--paired"), "pruner") == ["p90"]


def test_all_zero_and_all_one_predictions_are_compared(tmp_path, shown):
    made = [predicted([value] * 24, pruner=f"p{value}") for value in (0, 1)]
    text = shown(folder(tmp_path, *made), "--paired")
    assert column(text, "difference (points)") == ["-100.00 (1)"]


def test_the_order_of_records_changes_nothing(tmp_path, shown):
    made = [predicted(right(range(n)), pruner=f"p{n}") for n in (30, 60, 90)]
    texts = [
        shown(folder(tmp_path / str(place), *some), "--paired")
        for place, some in enumerate(itertools.permutations(made))
    ]
    assert len({*texts}) == 1
