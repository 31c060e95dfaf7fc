"""Plug-in families: what may be named in a configuration, and what is made of it."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import fields
from functools import partial
from typing import Any

from mint_cli.errors import SettingError, shortened
from mint_cli.signatures import nearest, shown

PASSED = {  # positional-only parameters of a plug-in: what the pipeline passes it (protocol.py)
    "dataset": ("root",),
    "model": ("shape", "classes"),
    "granularity": ("network", "layers"),
    "criterion": ("model", "cells", "images", "rng"),
    "estimator": ("child", "parent", "child_groups", "parent_groups", "rng"),
    "allocation": ("scores", "sizes", "wanted"),
    "compensation": ("model", "cells", "kept", "gone", "images", "rng"),
    "rounds": ("sparsity",),
}
VALUES = {  # families of one member: settings that are checked and passed as one value
    "recipe": "mint_cli.training.recipe.Recipe",
    "calibration": "mint_cli.solver.rows.Calibration",
}
INSIDE = {  # settings of a plug-in that are plug-ins or values themselves, and their families
    "estimator": "estimator",
    "calibration": "calibration",
    "quotas": "criterion",
    "order": "criterion",
    "base": "criterion",
}
MARKS = ("_target_", "_partial_")  # keys of a plug-in's settings that are none of its settings


def made(node: Any, family: str, where: str) -> Any:
    """The plug-in (a partial) or value that a node of a configuration describes.

    ``where`` is the setting that the node is at.  A plug-in's module is imported, and nothing else
    of it runs; SettingError refuses what is not of the family's shape by its name.
    """
    if not isinstance(node, dict):
        raise SettingError(
            where, f"must be a group of settings of the family {family}", shown(node)
        )
    target = node.get("_target_")
    if not isinstance(target, str):
        bound = f"must name the {kind(family)} as module.name"
        raise SettingError(f"{where}._target_", bound, shown(target))
    settings = {
        name: setting(value, name, f"{where}.{name}")
        for name, value in node.items()
        if name not in MARKS
    }
    if family in VALUES:
        return value_of(family, target, settings, where)
    return partial(function(target, family, f"{where}._target_"), **settings)


def setting(value: Any, name: str, where: str) -> Any:
    """A setting of a plug-in: plain, or a plug-in or value of a family that may stand inside."""
    if isinstance(value, dict) and "_target_" in value and name in INSIDE:
        return made(value, INSIDE[name], where)
    refuse_targets(value, where)
    return value


def refuse_targets(value: Any, where: str) -> None:
    """SettingError for a ``_target_`` where no plug-in belongs."""
    if isinstance(value, dict):
        if "_target_" in value:
            bound = f"is no place for a plug-in; there may be one at {', '.join(INSIDE)}"
            raise SettingError(where, bound)
        value = list(value.values())
    for one in value if isinstance(value, list) else ():
        refuse_targets(one, where)


def value_of(family: str, target: str, settings: dict[str, Any], where: str) -> Any:
    """The value of a family of one member, from its settings."""
    if target != VALUES[family]:
        raise SettingError(f"{where}._target_", f"must be {VALUES[family]}", target)
    own = located(target, f"{where}._target_")
    names = [field.name for field in fields(own)]
    for name in settings:
        if name not in names:
            raise SettingError(
                f"{where}.{name}", f"is no setting of a {family}", hint=nearest(name, names)
            )
    for name in names:
        if name not in settings:
            raise SettingError(f"{where}.{name}", f"is needed by a {family}")
    try:
        return own(**settings)
    except SettingError as error:
        error.setting = f"{where}.{error.setting}"
        raise


def function(target: str, family: str, where: str) -> Any:
    """The plug-in function of that name; SettingError unless it has the family's shape."""
    found = located(target, where)
    if not inspect.isfunction(found):
        raise SettingError(
            where, f"must name a {kind(family)}; {target} is a {type(found).__name__}"
        )
    passed = [
        p.name for p in inspect.signature(found).parameters.values() if p.kind is p.POSITIONAL_ONLY
    ]
    if len(passed) != len(PASSED[family]):
        bound = (
            f"must name a {kind(family)}, which takes ({', '.join(PASSED[family])}, /, *, settings)"
        )
        raise SettingError(
            where, f"{bound}; {target} takes ({', '.join([*passed, '/']) if passed else ''})"
        )
    return found


def located(target: str, where: str) -> Any:
    """What ``module.name`` is, its module imported; SettingError says why it cannot be."""
    module, _, name = target.rpartition(".")
    if not module or not all(part.isidentifier() for part in target.split(".")):
        raise SettingError(where, "must be written module.name", shown(target))
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        hint = ""
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            hint = (
                "modules are looked for beside the folder of --config-dir and in the current folder"
            )
        raise SettingError(where, f"{target} cannot be imported: {error}", hint=hint) from error
    except (
        Exception,
        SystemExit,
    ) as error:  # whatever a module of somebody else's does when it is imported
        raise SettingError(
            where, f"{target} cannot be imported: {type(error).__name__}: {shortened(error)}"
        ) from error
    if not hasattr(imported, name):
        place = getattr(imported, "__file__", None) or "no file of its own"
        raise SettingError(where, f"{target} is not there: module {module} ({place}) has no {name}")
    return getattr(imported, name)


def kind(family: str) -> str:
    """What a target of the family must be, in words."""
    return f"{family}'s class" if family in VALUES else f"{family} function"
