"""The plug-in families: every member is of its family's shape, and its settings stand in
its YAML.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import torch
import yaml

from mint_cli.protocol import Cells, Estimate, Images, Layer, checked_by

ROOT = Path(__file__).parent.parent
PASSED = {  # what the pipeline passes, left of the slash
    "dataset": ["root"],
    "model": ["shape", "classes"],
    "granularity": ["network", "layers"],
    "criterion": ["model", "cells", "images", "rng"],
    "estimator": ["child", "parent", "child_groups", "parent_groups", "rng"],
    "allocation": ["scores", "sizes", "wanted"],
    "compensation": ["model", "cells", "kept", "gone", "images", "rng"],
    "schedule": ["sparsity"],
}
CHECKED = {"criterion": ["layers", "cells", "labels"], "estimator": ["rows"]}
CHECKED["compensation"] = CHECKED["criterion"]
GROUPS = {"schedule": "rounds"}  # families whose config group bears another name
SHARED = {"allocation.quota", "compensation.inputs", "schedule.rounds"}  # no plug-ins


def plugins() -> dict[str, tuple[str, Callable, list[dict]]]:
    """Every plug-in of the package by family and name, with the settings of its YAMLs."""
    found: dict[str, tuple[str, Callable, list[dict]]] = {}
    for family in PASSED:
        for path in sorted((ROOT / "conf" / GROUPS.get(family, family)).glob("*.yaml")):
            settings = yaml.safe_load(path.read_text())
            module, name = settings.pop("_target_").rsplit(".", 1)
            assert settings.pop("_partial_") is True, path
            function = getattr(importlib.import_module(module), name)
            found.setdefault(f"{family}.{name}", (family, function, []))[2].append(settings)
    return found


PLUGINS = plugins()


def parameters(function: Callable, kind) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(function).parameters.values() if p.kind is kind]


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plug_in_takes_what_its_family_is_passed_by_place_and_settings_by_name_without_defaults(
    name,
):
    family, function, configs = PLUGINS[name]
    passed = parameters(function, inspect.Parameter.POSITIONAL_ONLY)
    assert [p.name for p in passed] == PASSED[family]
    settings = parameters(function, inspect.Parameter.KEYWORD_ONLY)
    assert len(passed) + len(settings) == len(inspect.signature(function).parameters)
    assert all(p.default is p.empty for p in (*passed, *settings))
    assert all(p.annotation is not p.empty for p in settings)
    for config in configs:
        assert set(config) <= {p.name for p in settings}
    mounted = {"estimator", "quotas", "order", "base"}  # plug-ins that a pruner mounts
    assert {p.name for p in settings} - mounted <= set().union(*configs)


@pytest.mark.parametrize("name", [n for n, (_, f, _) in PLUGINS.items() if hasattr(f, "check")])
def test_a_check_takes_the_same_settings_as_its_plug_in(name):
    family, function, _ = PLUGINS[name]
    check = function.check
    passed = parameters(check, inspect.Parameter.POSITIONAL_ONLY)
    assert [p.name for p in passed] == CHECKED[family]
    settings = {p.name for p in parameters(function, inspect.Parameter.KEYWORD_ONLY)}
    own = {p.name for p in parameters(check, inspect.Parameter.KEYWORD_ONLY)}
    rest = parameters(check, inspect.Parameter.VAR_KEYWORD)
    assert own <= settings and (own == settings or rest)


def test_every_module_of_a_family_is_a_plug_in_with_a_yaml_or_shared_by_them():
    modules = {
        f"{family}.{path.stem}"
        for family in PASSED
        for path in (ROOT / "mint_cli" / family).glob("*.py")
        if path.stem != "__init__"
    }
    homes = {f"{family}.{f.__module__.rpartition('.')[2]}" for family, f, _ in PLUGINS.values()}
    assert modules - homes <= SHARED and homes <= modules


def test_a_plug_in_bears_the_name_of_its_module():
    named = {
        n: f for n, (_, f, _) in PLUGINS.items() if f.__module__.rpartition(".")[2] != f.__name__
    }
    assert {n.partition(".")[0] for n in named} <= {"dataset"}  # one module reads both MNISTs


def test_only_values_travel_and_they_do_not_change():
    layer = Layer("conv", "Conv2d", (6, 3, 5, 4), 9, 1)
    for value in (
        layer,
        Cells((2,), {}),
        Estimate(torch.zeros(1)),
        Images(torch.zeros(1), torch.zeros(1)),
    ):
        with pytest.raises(FrozenInstanceError):
            value.name = "other"


def test_a_layer_knows_its_weight_by_name_and_how_many_lie_between_two_channels():
    assert Layer("a.conv", "Conv2d", (6, 3, 5, 4), 9, 1).weight == "a.conv.weight"
    assert Layer("", "Linear", (6, 3), 1, 1).weight == "weight"  # the network is a layer itself
    assert Layer("a", "Conv2d", (6, 3, 5, 4), 9, 1).kernel == 20
    assert Layer("a", "Linear", (6, 3), 1, 1).kernel == 1


def test_images_are_as_many_as_their_labels_and_without_a_transform_unless_told():
    images = Images(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(4))
    assert len(images) == 4 and images.padding == 0 and images.flip is False


def test_a_check_is_carried_by_the_function_it_belongs_to_which_stays_the_same():
    def check(): ...
    def plugin(): ...

    assert checked_by(check)(plugin) is plugin and plugin.check is check
