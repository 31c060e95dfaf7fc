"""The benchmark of the training loop."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import training

TRACKED = Path(__file__).parents[2] / "outputs/benchmarks/training"


def test_both_loops_train_the_same_network_for_as_many_steps(monkeypatch):
    steps = []
    monkeypatch.setattr(training, "optimiser_of", lambda model, recipe: Counted(model, steps))
    recipe = replace(training.RECIPE, batch_size=2)
    row = training.compare("resnet56", recipe, steps=2, rounds=1, device=torch.device("cpu"))
    assert len(steps) == 2 * 2 * 2  # steps of two loops in a round to warm up and one that counts
    assert row["speed_relative_to_bare"] == pytest.approx(
        row["seconds_per_step_bare"] / row["seconds_per_step"]
    )
    assert row["spread"] == [row["speed_relative_to_bare"]] * 2


class Counted(torch.optim.SGD):
    """An optimiser that notes its steps."""

    def __init__(self, model, steps):
        super().__init__(model.parameters(), lr=0.01)
        self.steps = steps

    def step(self, closure=None):
        self.steps.append(1)
        return super().step(closure)


def test_results_have_the_fields_of_the_tracked_ones(tmp_path, monkeypatch):
    row = {"model": "vgg16", "precision": "float32"}
    monkeypatch.setattr(training, "compare", lambda *settings: row)
    training.main(["--model", "vgg16", "--precision", "float32", "--out", str(tmp_path)])
    (written,) = tmp_path.glob("loop_*.json")
    tracked = json.loads((TRACKED / "avx2/loop_cpu.json").read_text())
    found = json.loads(written.read_text())
    assert list(found) == list(tracked) and list(found["recipe"]) == list(tracked["recipe"])
    assert found["rows"] == [row]
