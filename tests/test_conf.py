"""Every configuration composes, and every plug-in's settings are those of its function."""

import re
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from mint_cli import check as door
from mint_cli.main import CONF, build, check_machine, device_named, fast_precision, settled, told
from mint_cli.experiment import plan
from mint_cli.errors import SettingError

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


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("schedule.train.epochs=-1", "schedule.train.epochs must be at least 0, not -1"),
        ("schedule.retrain.epochs=two", "schedule.retrain.epochs must be int, not 'two'"),
        ("schedule.retrain.precision=float16", "schedule.retrain.precision must be one of float32, bfloat16, auto, not float16"),
        ("schedule.train.learning_rate=nan", "schedule.train.learning_rate must be float, not nan"),
        ("schedule.train.milestones=[a]", r"schedule.train.milestones must be a list of int, not \['a'\]"),
        ("schedule.train=null", "setting train must be Recipe, not None"),
        ("model.hidden=[1.5]", r"setting hidden must be a list of int, not \[1.5\]"),
        ("++pruner.caps={fc1:text}", "setting caps must be a mapping to float, not {'fc1': 'text'}"),
        ("++pruner.caps={fc1:2}", r"pruner.caps.fc1 must lie in \[0, 1\], not 2"),
        ("dataset.mean=[0,0]", r"dataset.mean and dataset.std must be 1 numbers.*not \[0.0, 0.0\]|not \[0, 0\]"),
        ("dataset.std=[0]", "std above 0"),
        ("pruner.samples_per_class=1 estimator@pruner.criterion.estimator=ksg", "at least 12 samples .*, not 10"),
        ("++pruner.criterion.features=all", "pruner.criterion.features must be one of means, patches, not all"),
        ("pruner.sparsity=1.5 schedule.rounds=2", r"pruner.sparsity must lie in \[0, 1\), not 1.5"),
        ("dataset=mnist dataset.variant=kmnist", "dataset.variant must be one of MNIST, FashionMNIST, not kmnist"),
        ("dataset=cifar10 dataset.subset=-100", "dataset.subset must be null or at least 1, not -100"),
        ("dataset=cifar10 dataset.padding=-1", "dataset.padding must be at least 0, not -1"),
        ("model.weights=3", "model.weights must name a checkpoint file.* 3"),
    ],
)
def test_a_bad_setting_is_told_before_any_stage_in_one_sentence(override, sentence):
    with pytest.raises(Exception) as refusal:
        experiment = build(composed(*override.split()))
        plan(experiment)
        door.check(experiment)
    assert re.search(sentence, told(refusal.value))


@pytest.mark.parametrize("override", ["threads=-1", "threads=0", "threads=2.5", "device=null", "store=null", "data=null"])
def test_where_and_on_what_a_run_takes_place_is_checked(override):
    with pytest.raises(
        SettingError, match=f"{override.partition('=')[0]} must be .*, not {override.partition('=')[2].replace('null', 'None')}"
    ):
        check_machine(composed(override))


@pytest.mark.parametrize("name", ["meta", "mps", "abc", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_by_name(name):
    with pytest.raises(SettingError, match=f"device.*{name}"):
        device_named(name)


@pytest.mark.parametrize(("recipe", "batch_size", "told_of"), [("train", 1, True), ("retrain", 1, True), ("train", 2, False)])
def test_a_batch_of_one_is_refused_where_a_batch_norm_after_a_linear_layer_needs_two(monkeypatch, recipe, batch_size, told_of):
    cfg = composed("model=vgg16", "dataset=digits", "pruner=l1", f"schedule.{recipe}.batch_size={batch_size}", "pruner.groups=null")
    monkeypatch.setattr("mint_cli.stage.Network.build", lambda self: nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10)))
    found = None
    try:
        door.check(build(cfg))
    except SettingError as error:
        found = str(error)
    assert (found == f"schedule.{recipe}.batch_size and the training images must be at least 2 for this network's batch norm") is told_of
