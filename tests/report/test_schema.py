"""Records of schema 1 beside those of schema 2."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from report.records import column, folder, lines, record

from mint_cli.commandline import CONF, arguments
from mint_cli.compose import resolved
from mint_cli.report.record import parsed, read
from mint_cli.report.schema import settings_of_today
from mint_cli.study import STUDIES, cells
from mint_cli.study import read as read_study

ROOT = Path(__file__).parents[2]
OLD = Path(__file__).with_name("schema1")  # records of that time
ELIMINATION, EQUAL, REFIT, WHOLE = (
    OLD / f"{name}.json" for name in ("elimination", "equal", "refit", "whole")
)

BLOCKS = {"_target_": "mint_cli.granularity.blocks.blocks", "_partial_": True}
CALIBRATION = {
    "_target_": "mint_cli.solver.rows.Calibration",
    "images": 1000,
    "positions": 128,
    "measured": 0.5,
    "joint": 0.9,
    "ridge": 0.01,
    "batch_size": 100,
}
RESELECT = {
    "_target_": "mint_cli.compensation.reselect.reselect",
    "_partial_": True,
    "calibration": CALIBRATION,
    "inputs": "pruned",
    "growth": 2.0,
    "sweeps": 1,
}
BY_ELIMINATION = {
    "_target_": "mint_cli.criterion.elimination.elimination",
    "_partial_": True,
    "calibration": CALIBRATION,
    "depth": 1152,
}
ONE_QUOTA = {
    "_target_": "mint_cli.allocation.capped_quota.capped_quota",
    "_partial_": True,
    "cap": 1.0,
    "caps": {},
}
EQUAL_QUOTAS = {"_target_": "mint_cli.allocation.layer_quota.layer_quota", "_partial_": True}
BY_LAYER = {"child_groups": {"fc1": 100, "fc2": 60}, "parent_groups": {"fc1": 98, "fc2": 100}}
TRANSLATED = {  # by hand: what the new code writes for the experiments of these records
    ELIMINATION: {
        "granularity": {**BLOCKS, "child_groups": None, "parent_groups": None},
        "criterion": BY_ELIMINATION,
        "allocation": ONE_QUOTA,
        "compensation": RESELECT,
    },
    EQUAL: {
        "granularity": {**BLOCKS, "child_groups": None, "parent_groups": None},
        "criterion": BY_ELIMINATION,  # the old one says l1, and that it decided nothing
        "allocation": EQUAL_QUOTAS,
        "compensation": RESELECT,
    },
    REFIT: {
        "granularity": {**BLOCKS, "child_groups": None, "parent_groups": None},
        "criterion": {
            "_target_": "mint_cli.criterion.l1.l1",
            "_partial_": True,
            "normalise": False,
        },
        "allocation": EQUAL_QUOTAS,
        "compensation": {
            "_target_": "mint_cli.compensation.refit.refit",
            "_partial_": True,
            "calibration": CALIBRATION,
            "inputs": "pruned",
        },
    },
    WHOLE: {
        "granularity": {**BLOCKS, **BY_LAYER},
        "criterion": {
            "_target_": "mint_cli.criterion.conditional_information.conditional_information",
            "_partial_": True,
            "samples_per_class": 250,
            "features": "means",
            "estimator": {
                "_target_": "mint_cli.estimator.gmi.gmi",
                "_partial_": True,
                "splits": 2,
                "scale": "standard",
            },
        },
        "allocation": EQUAL_QUOTAS,
        "compensation": {"_target_": "mint_cli.compensation.none.none", "_partial_": True},
    },
}
SHARED = (  # settings of pruner that have kept their names
    *("sparsity", "of", "skip", "cap", "caps", "groups", "child_groups", "parent_groups"),
    *("samples_per_class", "batch_norm_images"),
)


def old(place: Path) -> dict[str, Any]:
    """A record of schema 1."""
    found = json.loads(place.read_text())
    assert found["schema"] == 1
    return found


def twin(place: Path) -> dict[str, Any]:
    """The record that the new code writes of the same experiment with another seed."""
    first = old(place)
    config = deepcopy(first["config"])
    for recipe in ("train", "retrain"):
        config["schedule"][recipe]["_target_"] = "mint_cli.training.recipe.Recipe"
    oneshot = "mint_cli.schedule.oneshot.oneshot"
    config["schedule"]["rounds"] = {"_target_": oneshot, "_partial_": True}
    config["checkpoint"] = config["model"].pop("weights")
    if config["checkpoint"]:
        config["checkpoint"] = "/elsewhere/" + config["checkpoint"]
    config |= {"checkpoint_key": None, "checkpoint_match": "name", "checkpoint_zeros": False}
    kept = {key: config["pruner"][key] for key in SHARED}
    config["pruner"] = kept | deepcopy({"calibration": CALIBRATION} | TRANSLATED[place])
    config |= {"seed": 7, "threads": None}
    config["dataset"]["seed"] = 7
    reliability = None if place == EQUAL else first["signal"]
    measured = {key: first[key] for key in first if key not in ("signal", "environment")}
    new = {"schema": 2, "seed": 7, "threads": 1, "reliability": reliability, "config": config}
    return measured | new


@pytest.mark.parametrize("place", TRANSLATED, ids=lambda p: p.stem)
def test_an_old_and_a_new_record_of_one_experiment_are_one_row_of_two_seeds(tmp_path, shown, place):
    text = shown(folder(tmp_path, old(place), twin(place)))
    retrained = 100 * old(place)["accuracy"]["retrained"]
    assert column(text, "accuracy.retrained (%)") == [f"{retrained:.2f} ± 0.00 (2)"]
    assert lines(text)[0][0] == "sparsity.total (%)"


@pytest.mark.parametrize("place", TRANSLATED, ids=lambda p: p.stem)
def test_an_old_record_has_exactly_the_settings_that_a_new_one_has(tmp_path, place):
    folder(tmp_path, old(place), twin(place))
    first, second = (read(tmp_path / run / "record.json") for run in ("run0", "run1"))
    assert first.settings == second.settings and first.threads == second.threads == "1"
    assert first.numbers.get("agreement") == second.numbers.get("agreement")


@pytest.mark.parametrize("difference", ["dense", "images", "zeros"])
def test_a_new_record_of_another_experiment_is_another_row(tmp_path, shown, difference):
    other = twin(REFIT)
    if difference == "zeros":
        other["config"]["checkpoint_zeros"] = True
    elif difference == "dense":
        other["config"]["pruner"]["compensation"]["inputs"] = "dense"
    else:
        other["config"]["pruner"]["compensation"]["calibration"] = CALIBRATION | {"images": 4000}
    assert len(lines(shown(folder(tmp_path, old(REFIT), other)))) == 3


def test_settings_that_had_no_effect_tell_no_rows_apart(tmp_path, shown):
    other = twin(REFIT)  # starts from a checkpoint and does not retrain
    other["config"]["schedule"]["train"]["precision"] = "float32"
    other["config"]["schedule"]["retrain"]["precision"] = "float32"
    assert len(lines(shown(folder(tmp_path, old(REFIT), other)))) == 2
    several = [deepcopy(other), deepcopy(other)]
    for one, precision in zip(several, ("bfloat16", "float32"), strict=True):
        one["config"]["schedule"]["retrain"] |= {"precision": precision, "epochs": 1}
    assert len(lines(shown(folder(tmp_path / "retrained", *several)))) == 3


def test_the_recipe_counts_where_a_checkpoint_leaves_something_new(tmp_path, shown):
    several = [twin(REFIT) for _ in range(2)]
    for one, gamma in zip(several, (0.2, 0.3), strict=True):
        one["config"]["schedule"]["train"]["gamma"] = gamma
    assert len(lines(shown(folder(tmp_path / "all from the file", *several)))) == 2
    for one in several:
        one["config"]["checkpoint_new"] = ["linear"]
    assert len(lines(shown(folder(tmp_path / "anew", *several)))) == 3
    assert len(lines(shown(folder(tmp_path / "one anew", several[0], twin(REFIT))))) == 3


def test_the_recipe_counts_where_no_checkpoint_was_given(tmp_path, shown):
    other = twin(WHOLE)
    other["config"]["schedule"]["train"]["gamma"] = 0.3
    assert len(lines(shown(folder(tmp_path, old(WHOLE), other)))) == 3


@pytest.mark.parametrize(
    ("name", "new", "inputs"),
    [
        ("layer", "refit", "dense"),
        ("sequential", "refit", "pruned"),
        ("eliminate", "reselect", "pruned"),
    ],
)
def test_the_former_compensations_have_their_names_of_today(name, new, inputs):
    found = settings_of_today({"pruner.compensation": name})
    assert found["pruner.compensation"] == new
    assert found["pruner.compensation.inputs"] == inputs


def test_several_rounds_are_a_geometric_schedule_and_one_is_oneshot():
    several = settings_of_today({"schedule.rounds": 3})
    assert several["schedule.rounds"] == "geometric" and several["schedule.rounds.count"] == 3
    one = settings_of_today({"schedule.rounds": 1})
    assert one["schedule.rounds"] == "oneshot" and "schedule.rounds.count" not in one


def test_what_an_allocation_was_set_to_by_itself_is_what_was_asked_for():
    old = {"pruner.allocation.sparsity": 0.9, "pruner.sparsity": 0.8}
    assert settings_of_today(old)["pruner.sparsity"] == 0.9
    assert settings_of_today(dict(reversed(old.items())))["pruner.sparsity"] == 0.9


def test_calibration_that_a_compensation_was_set_to_by_itself_stays_its_own():
    old = {
        "pruner.calibration_images": 1000,
        "pruner.compensation.calibration_images": 4000,
        "pruner.compensation.ridge": 0.1,
        "pruner.criterion.batch_size": 50,  # of taylor, which has no calibration
    }
    new = settings_of_today(old)
    assert new["pruner.calibration.images"] == 1000
    assert new["pruner.compensation.calibration.images"] == 4000
    assert new["pruner.calibration.ridge"] == new["pruner.compensation.calibration.ridge"] == 0.1
    assert new["pruner.criterion.batch_size"] == 50


def tracked() -> dict[str, tuple[Path, tuple[str, ...]]]:
    """A record of schema 1 out of every folder of a study, and the overrides of its run today."""
    found = {}
    for study in map(read_study, sorted(path.stem for path in STUDIES.glob("*.yaml"))):
        for cell in cells(study, Path(study.folder), {key: ["a.pt"] for key in study.needs}):
            path = ROOT / cell.folder / "record.json"
            name = str(cell.folder.parent)
            if name not in found and path.exists() and json.loads(path.read_text())["schema"] == 1:
                found[name] = (path, cell.overrides)
    return found


@pytest.mark.parametrize("name", found := tracked())
def test_a_tracked_record_has_exactly_the_settings_of_its_run_in_a_study_today(name):
    path, overrides = found[name]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = resolved(compose("config", overrides=arguments(list(overrides))[0]))
    first, raw = read(path), json.loads(path.read_text())
    for recipe in ("train", "retrain"):
        config["schedule"][recipe]["precision"] = raw["config"]["schedule"][recipe]["precision"]
    if config["checkpoint"]:
        config["checkpoint"] = raw["config"]["model"]["weights"]
    scored = any(key.startswith("pruner.criterion") for key in first.settings)
    today = {"schema": 2, "threads": 1, "config": config}
    second = parsed(raw | today | {"reliability": raw["signal"] if scored else None})
    assert first.settings == second.settings and first.seeds == second.seeds


def test_a_sparsity_that_a_threshold_did_not_ask_for_is_none(tmp_path):
    made = record()
    made["sparsity"]["asked"] = None
    folder(tmp_path, made, record(pruner="l1"))
    first, second = (read(tmp_path / run / "record.json") for run in ("run0", "run1"))
    assert first.settings["pruner.sparsity"] == "null"
    assert second.settings["pruner.sparsity"] == "0.9"


def test_another_schema_is_told_with_those_that_are_read(tmp_path, failing):
    assert "has schema 3, this mint-table reads 1 and 2" in failing(
        folder(tmp_path, record(schema=3))
    )
