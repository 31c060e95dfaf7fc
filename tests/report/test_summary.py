"""A record in the words that a user reads at the end of a run."""

from pathlib import Path

import pytest

from mint_cli.report.summary import summary


def record(**changes):
    layers = {f"layer{i}": 0.5 for i in range(3)}
    figures = {"agreement": 0.5, "child": 0.1, "parent": 0.2, "interaction": 0.7, "tied": None}
    reliability = {
        "agreement": 0.5,
        "layers": {"layer0": figures, "layer1": figures | {"agreement": 0.7}},
    }
    return {
        "dataset": "digits", "model": "mlp", "pruner": "gmi", "seed": 3,
        "sparsity": {"asked": 0.8, "total": 0.79994, "of_all_weights": 0.7, "layers": layers},
        "weights": {"prunable": 1234567, "all": 2000000, "kept": 3},
        "accuracy": {"dense": 0.9, "pruned": 0.5, "retrained": 0.85},
        "seconds": {"train": 1.26, "total": 12.0},
        "reliability": reliability,
        **changes,
    }  # fmt: skip


def lines(**changes) -> list[str]:
    return summary(record(**changes), Path("out/record.json")).splitlines()


def test_a_summary_says_what_was_asked_what_came_out_and_where_it_is_written():
    text = "\n".join(lines())
    assert lines()[0] == "digits mlp gmi seed 3"
    for part in (
        "asked 0.8000, reached 0.7999 of 1,234,567 prunable weights (0.7000 of all 2,000,000)",
        "layer0 0.500, layer1 0.500",
        "dense 90.00%, pruned 50.00%, retrained 85.00% (test)",
        "train 1.3, total 12.0",
        "out/record.json",
    ):
        assert part in text


def test_reliability_is_the_mean_over_layers_and_a_dash_where_no_layer_has_the_figure():
    (line,) = [line for line in lines() if "reliability" in line]
    assert "agreement of two halves 0.60" in line and "tied –" in line


def test_a_run_that_needed_no_score_says_so():
    assert any("no score was needed" in line for line in lines(reliability=None))


def test_a_threshold_asks_for_no_sparsity():
    sparsity = record()["sparsity"] | {"asked": None}
    assert any("asked by threshold, reached" in line for line in lines(sparsity=sparsity))


@pytest.mark.parametrize(("count", "more"), [(20, None), (50, "and 30 more")])
def test_of_many_layers_the_first_are_shown_and_the_rest_counted(count, more):
    sparsity = record()["sparsity"] | {"layers": {f"l{i}": 0.5 for i in range(count)}}
    text = "\n".join(lines(sparsity=sparsity))
    assert "l19 0.500" in text and "l20" not in text and (more is None) == ("more" not in text)
    assert more is None or more in text
