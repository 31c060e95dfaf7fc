"""The benchmark of the spanning-tree kernel."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import minimum_spanning_tree

from benchmarks import kernel

TRACKED = Path(__file__).parents[2] / "outputs/benchmarks/estimators/kernel.json"


def test_the_tree_that_is_timed_is_the_one_that_scipy_finds():
    base, child, names, grow = kernel.one_tree(200)
    full = base + ((child[:, :, None] - child[:, None]) ** 2).sum(0)
    place, ends = np.argsort(names), grow()
    weight = full[place[1:], place[ends[1:]]].sum(dtype=np.float64)
    assert np.isclose(weight, minimum_spanning_tree(full).sum(dtype=np.float64), rtol=1e-6)


def test_growth_is_the_ratio_of_the_fastest_runs_beside_the_square():
    found = kernel.growth([2.0, 1.0], [6.0, 9.0], 2.0, 10.0)
    spreads = {"few": 1.0, "many": 0.5}
    assert found == {"few": 10, "many": 60, "ratio": 6, "n_squared": 4, "spread": spreads}


def test_every_measure_has_a_row_and_tracked_results_can_still_be_read():
    found = json.loads(TRACKED.read_text())
    text = kernel.markdown(found, found.pop("environment"))
    assert "| ≥ 300 × scipy's csgraph | 503 × (0.90 ms, scipy 455 ms; equal weight: True) |" in text
    assert text.count("\n| ") == 2 + 6 and "python 3.11.7" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_row_says_how_to_run_it(capsys):
    kernel.main(["--only", "vgg16"])
    found = json.loads(capsys.readouterr().out)
    assert found == {"not_run": "python -m benchmarks.kernel --only vgg16"}
