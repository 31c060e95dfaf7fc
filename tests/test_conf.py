"""Every configuration composes, and every plug-in's settings are those of its function."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mint_cli import door
from mint_cli.main import CONF, build, fast_precision, settled

FAMILIES = ("dataset", "model", "criterion", "estimator", "allocation", "compensation")
OPTIONS = sorted(p.relative_to(CONF) for p in CONF.rglob("*.yaml"))


def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return settled(compose("config", overrides=list(overrides)), torch.device("cpu"))


def option(folder: str) -> list[str]:
    return sorted(p.stem for p in OPTIONS if p.parent == Path(folder))


@pytest.mark.parametrize("pruner", option("pruner"))
def test_every_pruner_builds_an_experiment(pruner):
    assert build(composed(f"pruner={pruner}")).seed == 0


@pytest.mark.parametrize("dataset", option("dataset"))
@pytest.mark.parametrize("model", option("model"))
def test_every_pair_of_data_set_and_model_composes(dataset, model):
    cfg = composed(f"dataset={dataset}", f"model={model}")
    OmegaConf.resolve(cfg)
    assert build(cfg).model.keywords.keys() == cfg.model.keys() - {"_target_", "_partial_", "weights"}


@pytest.mark.parametrize("experiment", option("experiment"))
def test_every_published_experiment_builds_and_names_its_command(experiment):
    assert build(composed(f"experiment={experiment}"))
    first_lines = (CONF / "experiment" / f"{experiment}.yaml").read_text().splitlines()[:3]
    assert any(line.startswith("# mint-run") and f"experiment={experiment}" in line for line in first_lines)


@pytest.mark.parametrize("schedule", option("schedule"))
def test_every_schedule_builds(schedule):
    assert build(composed(f"schedule={schedule}")).rounds >= 1


@pytest.mark.parametrize("family", FAMILIES)
def test_every_plug_in_has_a_function_a_yaml_and_a_test_of_the_same_name(family):
    package = CONF.parent / "mint_cli" / family
    functions = {p.stem for p in package.glob("*.py")} - {"__init__"}
    aliases = {"dataset": {"fashion_mnist"}, "allocation": {"global_quota"}}.get(family, set())
    assert set(option(family)) - aliases == functions
    assert functions <= {p.stem.removeprefix("test_") for p in (CONF.parent / "tests" / family).glob("test_*.py")}


@pytest.mark.parametrize("path", [p for p in OPTIONS if p.parts[0] in FAMILIES], ids=str)
def test_the_settings_of_every_yaml_are_those_of_its_function(path):
    from hydra.utils import get_method

    node = OmegaConf.to_container(OmegaConf.load(CONF / path))
    names = {k for k in node if k not in ("_target_", "_partial_", "weights", "defaults")}
    parameters = door.inspect.signature(get_method(node["_target_"])).parameters.values()
    settings = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert names | {"estimator"} == settings | {"estimator"}
    assert all(p.default is p.empty for p in parameters)


def test_the_settings_of_a_pair_come_by_themselves_and_yield_to_the_command_line():
    assert composed("dataset=mnist", "model=mlp").pruner.skip == ["fc1", "fc3"]
    assert composed("dataset=mnist", "model=mlp", "pruner.skip=[]").pruner.skip == []
    assert composed("dataset=mnist", "model=mlp", "schedule=short").schedule.train.decay == "cosine"


def test_a_group_setting_reaches_both_sides_of_the_criterion():
    cfg = composed("pruner.groups=7")
    assert cfg.pruner.criterion.parent_groups == 7 and cfg.pruner.criterion.child_groups == 7


@pytest.mark.parametrize("fast", ["float32", "bfloat16"])
def test_precision_auto_becomes_what_suits_the_device_and_a_typed_one_stays(monkeypatch, fast):
    monkeypatch.setattr("mint_cli.main.fast_precision", lambda device: fast)
    schedule = composed("dataset=cifar10", "model=vgg16", "schedule.retrain.precision=float32").schedule
    assert (schedule.train.precision, schedule.retrain.precision) == (fast, "float32")


@pytest.mark.parametrize(("units", "precision"), [({}, "float32"), ({"avx2": True}, "float32"), ({"avx512_bf16": True}, "bfloat16")])
def test_bfloat16_is_for_cpus_with_units_for_it(monkeypatch, units, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    assert fast_precision(torch.device("cpu")) == precision
