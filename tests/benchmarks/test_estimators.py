"""The study of the estimators."""

import importlib
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks import estimators
from mint_cli.commandline import CONF

TRACKED = Path(__file__).parents[2] / "outputs/benchmarks/estimators"


@pytest.mark.parametrize("name", estimators.SETTINGS)
def test_a_row_has_the_settings_of_its_yaml_but_for_those_that_it_names(name):
    module, settings = estimators.SETTINGS[name]
    function = estimators.estimator(name).func
    kinds = inspect.signature(function).parameters.values()
    assert set(settings) == {p.name for p in kinds if p.kind is p.KEYWORD_ONLY}
    default = yaml.safe_load((CONF / f"estimator/{module}.yaml").read_text())
    changed = {key for key, value in settings.items() if value != default[key]}
    named = {"gmi, scale=block": {"scale"}, "gaussian, form=variance": {"form"}}
    published = {"published": {"splits"}, "published, paired": {"splits", "unpaired"}}
    assert changed == (named | published).get(name, set())


def test_every_estimator_of_groups_has_a_row():
    def judges_classes(name):
        module = importlib.import_module(f"mint_cli.estimator.{name}")
        return getattr(getattr(module, name), "of_classes", False)

    names = {path.stem for path in (CONF / "estimator").glob("*.yaml")}
    rows = {module for module, _ in estimators.SETTINGS.values()}
    assert rows == {name for name in names if not judges_classes(name)}


def test_what_is_true_of_a_case_is_nats_or_a_divergence_between_0_and_1():
    assert estimators.truth("independent", "gmi", 1) == 0
    assert estimators.truth("X = Y + noise", "ksg", 4) == pytest.approx(2 * np.log(2))
    near, far = (estimators.truth("X = Y + noise", "gmi", d) for d in (1, 4))
    assert 0.157 == pytest.approx(near, abs=5e-4) and near < far < 1


def test_a_case_has_its_power_against_the_case_without_information():
    null = {case: [0.1 * i for i in range(20)] for case in estimators.CASES}
    above = null | {"X = Y + noise": [1.85] * 5 + [2.0] * 15}
    row = estimators.case_row("gaussian", "X = Y + noise", 400, 1, above)
    assert row["power"] == 1.0 and row["bias"] == pytest.approx(row["mean"] - row["truth"])
    assert estimators.case_row("gaussian", "X = Y + noise", 400, 1, null)["power"] == 0.05
    assert estimators.case_row("gaussian", "independent", 400, 1, null)["power"] is None


def test_draws_of_a_case_are_the_same_every_time():
    first, again = (estimators.draws("gaussian", "X = Y + noise", 50, 1) for _ in range(2))
    assert len(first) == 20 and first == again


def test_the_tables_of_tracked_results_come_out_again():
    found = json.loads((TRACKED / "study.json").read_text())
    text = estimators.markdown(found["estimators"], found["environment"])
    tracked = (TRACKED / "study.md").read_text()
    made, kept = ([s for s in one.splitlines() if s[:1] in "#|"] for one in (text, tracked))
    assert made == kept and len(kept) > 50
