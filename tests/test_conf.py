"""Every configuration composes, and every plug-in's settings are those of its function."""

import inspect
from pathlib import Path

import pytest
from commandline import composed
from omegaconf import OmegaConf

from mint_cli.commandline import CONF
from mint_cli.compose import build, resolved
from mint_cli.families import INSIDE, PASSED, function

OPTIONS = sorted(p.relative_to(CONF) for p in CONF.rglob("*.yaml"))
MOUNTS = {
    "allocation": "pruner.allocation",
    "calibration": "pruner.calibration",
    "compensation": "pruner.compensation",
}
MOUNTS |= {
    "criterion": "pruner.criterion",
    "granularity": "pruner.granularity",
    "rounds": "schedule.rounds",
}
MOUNTS |= {"estimator": "pruner.criterion.estimator", "recipe": "schedule.train"}
CODE = {"rounds": "schedule"}  # folder of a family's functions, where it has another name
ALIASES = {  # the same function set otherwise
    "dataset": {"fashion_mnist"},
    "allocation": {"global_quota"},
    "model": {"densenet100", *(f"resnet{depth}" for depth in (20, 32, 44, 56, 110, 164))},
}
SHARED = {
    "allocation": {"quota"},
    "compensation": {"inputs"},
    "rounds": {"rounds"},
}  # modules that are no plug-in

PRUNERS = {
    ("criterion", "conditional_information"): "gmi",
    ("criterion", "costed"): "molchanov",
    ("criterion", "label_information"): "label_information",
    ("criterion", "within"): "l1_within",
}


def option(folder: str) -> list[str]:
    return sorted(p.stem for p in OPTIONS if p.parent == Path(folder))


def experiment(*overrides: str):
    return build(resolved(composed(*overrides)))


PAIRS = {("digits", model) for model in option("model")}
PAIRS |= {(dataset, "mlp") for dataset in option("dataset")}
PAIRS |= {tuple(name.rsplit("_", 1)) for name in option("benchmark")}


@pytest.mark.parametrize("dataset, model", sorted(PAIRS))
def test_every_data_set_every_model_and_every_benchmark_makes_an_experiment(dataset, model):
    made = experiment(
        f"dataset={dataset}",
        f"model={model}",
        "schedule.train.precision=float32",
        "schedule.retrain.precision=float32",
    )
    own = made.model.func.__name__ == model
    assert own != (model in ALIASES["model"]) and made.seed == 0


@pytest.mark.parametrize("group", ["pruner", "schedule"])
def test_every_option_of_a_group_makes_an_experiment(group):
    for name in option(group):
        precision = [f"schedule.{recipe}.precision=float32" for recipe in ("train", "retrain")]
        assert experiment(f"{group}={name}", *precision).seed == 0


@pytest.mark.parametrize("family", sorted(MOUNTS))
def test_every_plug_in_that_is_mounted_makes_an_experiment(family):
    precision = [f"schedule.{recipe}.precision=float32" for recipe in ("train", "retrain")]
    for name in option(family):
        pruner = {"estimator": "gmi"}.get(family) or PRUNERS.get((family, name), "l1")
        assert (
            experiment(f"pruner={pruner}", f"{family}@{MOUNTS[family]}={name}", *precision).seed
            == 0
        )


@pytest.mark.parametrize("name", option("experiment"))
def test_every_published_experiment_is_one_and_names_its_command(name):
    precision = [f"schedule.{recipe}.precision=float32" for recipe in ("train", "retrain")]
    assert experiment(f"experiment={name}", *precision)
    first = (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()[:3]
    assert any(line.startswith("# mint-run") and f"experiment={name}" in line for line in first)


@pytest.mark.parametrize("family", sorted(PASSED))
def test_every_plug_in_has_a_function_a_yaml_and_a_test_of_the_same_name(family):
    folder = CODE.get(family, family)
    code = {p.stem for p in (CONF.parent / "mint_cli" / folder).glob("*.py")}
    functions = code - {"__init__"} - SHARED.get(family, set())
    assert set(option(family)) - ALIASES.get(family, set()) == functions
    tests = {
        p.stem.removeprefix("test_") for p in (CONF.parent / "tests" / folder).glob("test_*.py")
    }
    assert functions <= tests


@pytest.mark.parametrize("path", [p for p in OPTIONS if p.parts[0] in PASSED], ids=str)
def test_the_settings_of_every_yaml_are_those_of_its_function(path):
    node = OmegaConf.to_container(OmegaConf.load(CONF / path), resolve=False)
    names = node.keys() - {"_target_", "_partial_", "defaults"}
    parameters = inspect.signature(
        function(node["_target_"], path.parts[0], "")
    ).parameters.values()
    settings = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert names | set(INSIDE) == settings | set(INSIDE)
    assert all(p.default is p.empty for p in parameters)


def test_no_line_of_a_configuration_is_wider_than_a_screen():
    wide = [
        f"{p}: {line}"
        for p in OPTIONS
        for line in (CONF / p).read_text().splitlines()
        if len(line) > 100
    ]
    assert not wide


def test_no_two_benchmarks_say_the_same():
    texts = [
        OmegaConf.to_yaml(OmegaConf.load(CONF / "benchmark" / f"{name}.yaml"))
        for name in option("benchmark")
    ]
    assert len(set(texts)) == len(texts)


def test_the_settings_of_a_pair_come_by_themselves_and_yield_to_the_command_line():
    assert composed("dataset=mnist", "model=mlp").pruner.skip == ["fc1", "fc3"]
    assert composed("dataset=mnist", "model=mlp", "pruner.skip=[]").pruner.skip == []
    assert composed("dataset=mnist", "model=mlp", "schedule=short").schedule.train.decay == "cosine"


@pytest.mark.parametrize("model", ["mlp", "lenet5"])
def test_fashion_mnist_has_the_settings_of_mnist(model):
    one, other = (
        composed(f"dataset={name}", f"model={model}") for name in ("mnist", "fashion_mnist")
    )
    assert one.pruner == other.pruner and one.schedule == other.schedule


def test_mints_recipe_is_that_of_cifar10s_networks_but_for_resnet56s_training():
    vgg16 = composed("dataset=cifar10", "model=vgg16").schedule
    resnet56 = composed("dataset=cifar10", "model=resnet56").schedule
    assert vgg16.train == vgg16.retrain == resnet56.retrain
    assert (vgg16.train.epochs, vgg16.train.learning_rate, resnet56.train.learning_rate) == (
        300,
        0.1,
        0.01,
    )


def test_a_setting_that_all_share_reaches_every_plug_in_that_uses_it():
    cfg = composed("pruner.groups=7", "pruner.calibration.images=600")
    assert cfg.pruner.granularity.parent_groups == cfg.pruner.granularity.child_groups == 7
    assert (
        cfg.pruner.criterion.calibration.images == cfg.pruner.compensation.calibration.images == 600
    )
