"""How to optimise: bounds, and the rates that the formulas name."""

from dataclasses import replace

import experiments
import pytest

from mint_cli.errors import SettingError
from mint_cli.training.recipe import learning_rate

RECIPE = replace(
    experiments.RECIPE, epochs=4, batch_size=32, weight_decay=1e-3, decay="step", milestones=[2]
)


def test_steps_reach_the_rates_their_formula_names():
    steps = replace(RECIPE, epochs=30, milestones=[10, 20], learning_rate=0.1)
    rates = [round(learning_rate(steps, e), 9) for e in (0, 9.99, 10, 20, 29)]
    assert rates == [0.1, 0.1, 0.01, 0.001, 0.001]


def test_a_cosine_falls_to_zero_after_a_linear_rise():
    cosine = replace(RECIPE, epochs=11, decay="cosine", milestones=[], warmup=1, learning_rate=0.2)
    assert learning_rate(cosine, 0) == 0 and learning_rate(cosine, 0.5) == pytest.approx(0.1)
    assert learning_rate(cosine, 1) == pytest.approx(0.2)
    assert learning_rate(cosine, 6) == pytest.approx(0.1)
    assert learning_rate(cosine, 11) == pytest.approx(0, abs=1e-12)


BAD = {
    "epochs": [-1, 10**9, "two", 0.5],
    "batch_size": [0],
    "learning_rate": [-0.1, float("inf"), float("nan")],
    "momentum": [-0.1, 1.0, 1.5],
    "weight_decay": [-1e-9],
    "gamma": [-1.0, float("inf")],
    "warmup": [-1],
    "label_smoothing": [-0.1, 2.0],
    "decay": ["linear"],
    "precision": ["float16"],
    "milestones": [[3, 1], [2, 2], [-1], ["a"]],
    "nesterov": [1],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_a_setting_outside_its_bounds_is_refused_by_name(name, value):
    with pytest.raises(SettingError, match=rf"^{name} must .*not "):
        replace(RECIPE, **{name: value})


def test_what_a_precision_may_be_tells_of_the_choice_that_is_settled_before():
    with pytest.raises(SettingError, match="must be one of float32, bfloat16, auto, not half"):
        replace(RECIPE, precision="half")
