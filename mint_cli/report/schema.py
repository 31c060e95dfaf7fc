"""Records of schema 1 under the names of schema 2, so that old and new fall into the same rows.

Settings are leaves under dotted names, a plug-in standing as its function's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

SCHEMAS = (1, 2)

MOVED = {  # old -> new; entries of a mapping move with it
    "model.weights": "checkpoint",
    "pruner.calibration_images": "pruner.calibration.images",
    "pruner.calibration_positions": "pruner.calibration.positions",
    "pruner.allocation.sparsity": "pruner.sparsity",
    "pruner.allocation.of": "pruner.of",
    "pruner.criterion.child_groups": "pruner.granularity.child_groups",
    "pruner.criterion.parent_groups": "pruner.granularity.parent_groups",
}
DROPPED = ("pruner.compensation.child_groups", "pruner.compensation.parent_groups")
COMPENSATIONS = {  # old -> new, and the inputs that it refits for
    "layer": ("refit", "dense"),
    "sequential": ("refit", "pruned"),
    "eliminate": ("reselect", "pruned"),
}
USERS = ("pruner.criterion", "pruner.compensation")  # that had settings of calibration
CALIBRATION = {  # what the old code had where nothing was set
    "images": 1000,
    "positions": 128,
    "measured": 0.5,
    "joint": 0.9,
    "ridge": 0.01,
    "batch_size": 100,
}
ADDED = {  # settings that the old code lacked, and what it did instead
    "checkpoint": None,
    "checkpoint_key": None,
    "checkpoint_match": "name",
    "checkpoint_zeros": False,
    "pruner.granularity": "blocks",
    "pruner.batch_norm_images": 0,
    "schedule.rounds": "oneshot",
    **{f"pruner.calibration.{key}": value for key, value in CALIBRATION.items()},
}
LATER = {"checkpoint_new": []}  # that came after the first records of schema 2, likewise
NETWORKS = {  # whose functions are called otherwise now: old target -> the network's settings
    "mint_cli.model.resnet56.resnet56": {
        "_target_": "mint_cli.model.resnet_cifar.resnet_cifar",
        "depth": 56,
        "bottleneck": False,
    }
}


def config_of_today(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of any record with its network as it is called today."""
    model = config.get("model")
    now = NETWORKS.get(model.get("_target_")) if isinstance(model, dict) else None
    return config | {"model": model | now} if now else config


def settings_of_today(old: dict[str, Any]) -> dict[str, Any]:
    """The settings of a record of schema 1 as a record of schema 2 has them."""
    users = [user for user in USERS if f"{user}.calibration_images" in old]
    places = {key: place(key, users) for key in old if not within(key, DROPPED)}
    new = {key: old[key] for key in places if places[key] == key}
    new |= {places[key]: old[key] for key in places if places[key] != key}  # a plug-in's own wins
    shared = {
        f"pruner.calibration.{key}": new[f"{user}.calibration.{key}"]
        for user in users
        for key in CALIBRATION
        if f"{user}.calibration.{key}" in new and f"pruner.calibration.{key}" not in new
    }
    return ADDED | shared | new | compensation(new) | rounds(new)


def place(key: str, users: list[str]) -> str:
    """Where an old setting stands today; ``users`` are the plug-ins that looked at images."""
    owner, _, name = key.rpartition(".")
    name = name.removeprefix("calibration_")
    if owner in users and name in CALIBRATION:
        return f"{owner}.calibration.{name}"
    moved = [old for old in MOVED if within(key, (old,))]
    return MOVED[moved[0]] + key[len(moved[0]) :] if moved else key


def within(key: str, owners: Iterable[str]) -> bool:
    """Whether a setting is one of ``owners`` or lies below one."""
    return any(key == owner or key.startswith(f"{owner}.") for owner in owners)


def compensation(settings: dict[str, Any]) -> dict[str, Any]:
    """The compensation by its name of today."""
    name = settings.get("pruner.compensation")
    if name not in COMPENSATIONS:
        return {}
    new, inputs = COMPENSATIONS[name]
    return {"pruner.compensation": new, "pruner.compensation.inputs": inputs}


def rounds(settings: dict[str, Any]) -> dict[str, Any]:
    """The schedule of rounds: the same share of what was left went in each of several."""
    count = settings.get("schedule.rounds", 1)
    several = {"schedule.rounds": "geometric", "schedule.rounds.count": count}
    return {"schedule.rounds": "oneshot"} if count == 1 else several


def record_of_today(old: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The measured part of a record of schema 1 under the names of schema 2."""
    unscored = (  # of the score only the counts by layer were taken, and these were equal quotas
        settings.get("pruner.compensation") == "reselect"
        and settings.get("pruner.allocation") == "layer_quota"
    )
    new = {key: value for key, value in old.items() if key != "signal"}
    if "signal" in old:
        new["reliability"] = None if unscored else old["signal"]
    return new | {"threads": (old.get("environment") or {}).get("threads")}
