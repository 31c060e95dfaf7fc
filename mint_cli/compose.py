"""From a configuration, or that of a record, to an experiment; errors named as the user types."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mint_cli import interpolation, machine
from mint_cli.errors import SettingError, owned
from mint_cli.families import made
from mint_cli.signatures import check_types, nearest, shown

if TYPE_CHECKING:
    import torch
    from torch import nn

    from mint_cli.experiment import Experiment
    from mint_cli.stage.common import Network

Groups = int | dict[str, int | None] | None

MOUNTS = {  # what an experiment calls a setting: where it is in a configuration
    "granularity": "pruner.granularity",
    "criterion": "pruner.criterion",
    "allocation": "pruner.allocation",
    "compensation": "pruner.compensation",
    "sparsity": "pruner.sparsity",
    "of": "pruner.of",
    "skip": "pruner.skip",
    "batch_norm_images": "pruner.batch_norm_images",
    "rounds": "schedule.rounds",
    "train": "schedule.train",
    "retrain": "schedule.retrain",
}


class Settings:
    """The settings of a run."""

    seed: int
    data: str
    store: str
    device: str
    threads: int | None
    checkpoint: str | None
    checkpoint_key: str | None
    checkpoint_match: str
    checkpoint_zeros: bool
    checkpoint_new: list[str]
    dataset: dict
    model: dict
    pruner: dict
    schedule: dict


class Pruner:
    """The settings that all pruners share, and the plug-ins of one."""

    sparsity: float | None
    of: str
    skip: list[str]
    cap: float
    caps: dict[str, float]
    groups: Groups
    child_groups: Groups
    parent_groups: Groups
    samples_per_class: int
    batch_norm_images: int
    calibration: dict
    granularity: dict
    criterion: dict
    allocation: dict
    compensation: dict


class Schedule:
    """How a network is trained, in how many rounds it is pruned, and how it is retrained."""

    rounds: dict
    train: dict
    retrain: dict


@dataclass(frozen=True)
class Job:
    """An experiment, where and on what it takes place, and the settings that it was made of."""

    experiment: Experiment
    store: Path
    device: torch.device
    settings: dict[str, Any]


def job_of(cfg: DictConfig, folder: Path) -> Job:
    """The job that a configuration describes; SettingError for one that describes none.

    Relative paths start at ``folder``.  What ``auto`` and null leave to the machine (precision,
    threads) is settled here, so that keys and records name it.
    """
    with typed(cfg):
        settings = resolved(cfg)
        check_settings(settings)
        device = machine.device_named(settings["device"])
        settle_precision(settings["schedule"], device)
        settings["threads"], experiment = threaded(settings["threads"], build(settings, folder))
        return Job(experiment, place(settings, "store", folder), device, settings)


@contextmanager
def typed(cfg: DictConfig) -> Iterator[None]:
    """Let a SettingError that passes through name its setting as the user types it."""
    try:
        yield
    except SettingError as error:
        raw = OmegaConf.to_container(cfg, resolve=False)
        error.setting = typed_name(raw, error.setting)
        raise


def typed_name(raw: dict[str, Any], setting: str) -> str:
    """Where the user sets what an experiment calls ``setting``, through mounts and interpolations.

    A setting that is nothing but another one (``${pruner.groups}``) is that other one to the user.
    """
    first, dot, rest = setting.partition(".")
    path = (MOUNTS.get(first, first) + dot + rest).split(".")
    return ".".join(interpolation.followed(raw, tuple(path)))


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The plain settings of a configuration, interpolations resolved, every number finite."""
    interpolation.check(OmegaConf.to_container(cfg, resolve=False))
    try:
        settings = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        where = str(error.full_key or "the configuration")
        raise SettingError(
            where, f"cannot be resolved: {str(error.msg).splitlines()[0]}"
        ) from error
    for path, value in leaves(settings):
        check_leaf(path, value)
    return settings


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a configuration that are neither mappings nor lists, with their paths."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from leaves(one, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for one in value:
            yield from leaves(one, path)
    else:
        yield path, value


def check_leaf(path: str, value: Any) -> None:
    """SettingError for what no setting can be: numbers not finite or too large, text with a NUL."""
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingError(path, "must be a finite number", value)
    if isinstance(value, int) and abs(value) >= 2**63:
        raise SettingError(path, "must lie between -2^63 and 2^63", value)
    if isinstance(value, str) and "\0" in value:
        raise SettingError(path, "must not hold the character NUL", repr(value))


def check_settings(settings: dict[str, Any]) -> None:
    """SettingError for a setting that does not exist, is missing, or is of the wrong type."""
    check_group("", Settings, settings)
    check_group("pruner", Pruner, settings["pruner"])
    check_group("schedule", Schedule, settings["schedule"])
    twice = [name for name, count in Counter(settings["pruner"]["skip"]).items() if count > 1]
    if twice:
        raise SettingError("pruner.skip", f"names {twice[0]} twice")
    if settings["threads"] is not None:
        machine.check_threads(settings["threads"])


def check_group(path: str, annotated: type, settings: dict[str, Any]) -> None:
    """SettingError for one of a group's settings."""
    names, prefix = annotated.__annotations__, f"{path}." if path else ""
    for name in settings:
        if name not in names:
            raise SettingError(f"{prefix}{name}", "is no setting", hint=nearest(str(name), names))
    for name in names:
        if name not in settings:
            raise SettingError(f"{prefix}{name}", "is missing")
    try:
        check_types(annotated, settings)
    except SettingError as error:
        error.setting = f"{prefix}{error.setting}"
        raise


def settle_precision(schedule: dict[str, Any], device: torch.device) -> None:
    """Replace ``precision: auto`` by what trains fast on the device."""
    for name in ("train", "retrain"):
        if schedule[name].get("precision") == "auto":
            schedule[name]["precision"] = machine.fast_precision(device)


def build(settings: dict[str, Any], folder: Path = Path()) -> Experiment:
    """The experiment of plain settings, a record's among them; threads that are null are 1."""
    from mint_cli.experiment import Experiment
    from mint_cli.network.checkpoint import Checkpoint
    from mint_cli.stage.common import Data

    pruner, schedule, start = settings["pruner"], settings["schedule"], settings["checkpoint"]
    made(
        pruner["calibration"], "calibration", "pruner.calibration"
    )  # whether or not a plug-in uses it
    how = [settings[f"checkpoint_{name}"] for name in ("key", "match", "zeros")]
    new = settings.get("checkpoint_new", [])  # a record may be older
    if new and start is None:
        raise SettingError("checkpoint_new", "needs a checkpoint, which the rest comes from", new)
    plugins = {
        name: made(pruner[name], name, f"pruner.{name}")
        for name in ("granularity", "criterion", "allocation", "compensation")
    }
    return Experiment(
        data=Data(made(settings["dataset"], "dataset", "dataset"), place(settings, "data", folder)),
        model=made(settings["model"], "model", "model"),
        checkpoint=None
        if start is None
        else Checkpoint.of(place(settings, "checkpoint", folder), *how, new),
        skip=pruner["skip"],
        **plugins,
        sparsity=pruner["sparsity"],
        of=pruner["of"],
        batch_norm_images=pruner["batch_norm_images"],
        rounds=made(schedule["rounds"], "rounds", "schedule.rounds"),
        train=made(schedule["train"], "recipe", "schedule.train"),
        retrain=made(schedule["retrain"], "recipe", "schedule.retrain"),
        seed=settings["seed"],
        threads=settings["threads"] or 1,
    )


def place(settings: dict[str, Any], name: str, folder: Path) -> Path:
    """A path of the settings, from ``folder`` on if it is relative; SettingError if it is empty."""
    if not settings[name].strip():
        raise SettingError(name, "must be a path", shown(settings[name]))
    return folder / Path(settings[name]).expanduser()


def threaded(threads: int | None, experiment: Experiment) -> tuple[int, Experiment]:
    """Threads as set or, if null, as the network wants them; and the experiment with them."""
    weights = size_of(experiment.network)
    if threads is None:
        threads = machine.threads_for(
            weights, math.prod(experiment.network.pixels), machine.cores()
        )
    return threads, replace(experiment, threads=threads)


def size_of(network: Network) -> int:
    """Weights of a network; SettingError for one that this machine's memory cannot hold."""
    import torch

    splits = network.data.splits  # not on the device below
    try:
        with owned("model"), torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = network.model(network.pixels, splits.classes)
    except RuntimeError:  # it computes while it is built, or cannot be built
        model = built(network)
    count = sum(parameter.numel() for parameter in model.parameters())
    if 4 * count > machine.memory():
        raise SettingError(
            "model", f"has {count:,} weights with these settings, more than the memory holds"
        )
    return count


def built(network: Network) -> nn.Module:
    """The network; SettingError where its settings ask for what no tensor can be."""
    try:
        return network.build()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise SettingError("model", f"cannot be built with these settings: {reason}") from error
