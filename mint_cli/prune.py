"""``mint-prune``: from a checkpoint to a smaller network in a file, by one command."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from mint_cli import commandline, machine
from mint_cli.commandline import CONF
from mint_cli.errors import SettingError
from mint_cli.main import INTERRUPTED, described, recorded
from mint_cli.signatures import nearest

BUDGETS = ("macs", "parameters", "channels")  # shares to remove; a channel is a cell
TYPED = {  # what mint-run calls a setting: what is typed here
    "checkpoint": "NETWORK",
    "data": "--data",
    "pruner.calibration.images": "--images",
    "schedule.retrain.epochs": "--epochs",
}


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``mint-prune``: 0, or 1 and one sentence on stderr."""
    machine.prepare()
    asked = options(argv)
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s] %(message)s", datefmt="%H:%M:%S")
    try:
        print(carry_out(asked))
        return 0
    except KeyboardInterrupt:
        say(INTERRUPTED)
        return 130
    except Exception as error:
        if isinstance(error, SettingError):
            given = {"pruner.sparsity": f"--{budget_of(asked)[0]}"}
            error.setting = (TYPED | given).get(error.setting, error.setting)
        say(described(error))
        return 1


def say(words: str) -> None:
    """One line on stderr."""
    print(f"mint-prune: {words}", file=sys.stderr, flush=True)


def options(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="mint-prune",
        description="Remove whole channels of a trained network, and write the smaller network.",
        epilog="Exactly one of --macs, --parameters and --channels: the share that is to go.",
    )
    add = parser.add_argument
    add("network", metavar="NETWORK", help="file with the network's weights (.pth, .safetensors)")
    add("settings", nargs="*", metavar="KEY=VALUE", help="any setting of mint-run")
    add("--model", required=True, help="a network of mint-run, or torchvision's name of one")
    add("--dataset", required=True, help="a data set of mint-run: cifar10, imagefolder, …")
    add("--data", metavar="DIR", help="folder of the data set")
    add("--macs", metavar="SHARE", help="of the multiply-accumulates to remove, 0.5 for half")
    add("--parameters", metavar="SHARE", help="of the parameters to remove")
    add("--channels", "--cells", metavar="SHARE", help="of the channels that can go to remove")
    add("--pruner", default="elimination", help="how channels are chosen (default: elimination)")
    add("--images", metavar="N", help="training images that the remaining weights are solved on")
    add("--epochs", metavar="N", default="0", help="of training afterwards (default: 0)")
    add("--output", metavar="FILE", type=Path, help="the file to write (default: with the record)")
    add("--dry-run", action="store_true", help="say what can go, with what, and why not; no more")
    return parser.parse_intermixed_args(argv)


def carry_out(asked: argparse.Namespace) -> str:
    """Do what a command line asks for; returns what there is to tell at the end."""
    cfg, folder = commandline.job(overrides(asked))
    if asked.dry_run:
        return foretold(cfg)
    folder.mkdir(parents=True, exist_ok=True)
    record = recorded(cfg, folder)
    from mint_cli.export import export

    path = export(folder, "packed", asked.output)
    return table(record, path, folder)


def foretold(cfg) -> str:
    """What a run would find and take."""
    from mint_cli.compose import job_of, typed  # heavy from here on: not for --help
    from mint_cli.preview import preview

    job = job_of(cfg, Path.cwd())
    machine.use(job.device, job.experiment.threads)
    with typed(cfg):
        return preview(job.experiment)


def overrides(asked: argparse.Namespace) -> list[str]:
    """The settings of ``mint-run`` for a command line; those that are typed as such come last."""
    unit, share = budget_of(asked)
    found = {
        "checkpoint": asked.network,
        **model_of(asked.model),
        "dataset": known(asked.dataset, "dataset"),
        **({"data": asked.data} if asked.data else {}),
        "pruner": known(asked.pruner, "pruner"),
        "granularity@pruner.granularity": "filters",
        "pruner.of": "cells" if unit == "channels" else unit,
        "pruner.sparsity": share,
        "pruner.skip": "[]",
        **({"pruner.calibration.images": asked.images} if asked.images else {}),
        "schedule.retrain.epochs": asked.epochs,
    }
    for setting in asked.settings:
        name, equals, value = setting.partition("=")
        if not (name and equals):
            raise SettingError(setting, "sets nothing", hint="a setting is written name=value")
        found[name] = value
    return [f"{name}={value}" for name, value in found.items()]


def budget_of(asked: argparse.Namespace) -> tuple[str, str]:
    """What is to become less, and by which share; SettingError unless one thing is."""
    given = {unit: getattr(asked, unit) for unit in BUDGETS}
    given = {unit: share for unit, share in given.items() if share is not None}
    if len(given) != 1:
        words = " and ".join(f"--{unit}" for unit in given) or "none"
        raise SettingError("exactly one of --macs, --parameters and --channels", "is needed", words)
    return next(iter(given.items()))


def model_of(name: str) -> dict[str, str]:
    """The settings for a network of this package or, by its own name, one of torchvision's."""
    own = choices("model")
    if name in own:
        return {"model": name}
    from torchvision import models

    others = models.list_models(module=models)
    if name not in others:
        bound = f"must be one of {', '.join(own)} or a classification network of torchvision"
        raise SettingError("--model", bound, name, nearest(name, [*own, *others]))
    return {"model": "torchvision", "model.name": name}


def known(name: str, group: str) -> str:
    """An option of a group; SettingError names the nearest one."""
    if name not in choices(group):
        bound = f"must be one of {', '.join(choices(group))}"
        raise SettingError(f"--{group}", bound, name, nearest(name, choices(group)))
    return name


def choices(group: str) -> list[str]:
    """The options of a group."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def table(record: dict[str, Any], path: Path, folder: Path) -> str:
    """What became of the network, before and after, and where it lies."""
    cost, accuracy = record["cost"], record["accuracy"]
    before, after = cost["dense"], cost["shrunken"]
    times = [network["latency"]["batch_128"]["median"] for network in (before, after)]
    rows = [
        ("", "before", "after"),
        ("test accuracy", *(f"{accuracy[name]:.2%}" for name in ("dense", "shrunken"))),
        ("multiply-accumulates", *(f"{network['macs']:,}" for network in (before, after))),
        ("parameters", *(f"{network['parameters']:,}" for network in (before, after))),
        ("megabytes in a file", *(f"{network['bytes'] / 1e6:.2f}" for network in (before, after))),
        ("milliseconds for 128 images", *(f"{one:.1f}" for one in times)),
    ]
    lines = [f"{what:<27}  {one:>15}  {other:>15}" for what, one, other in rows]
    if record["shrink"]["reason"]:
        lines.append(f"the network was not made smaller: {record['shrink']['reason']}")
    return "\n".join([*lines, f"record  {folder / 'record.json'}", f"network {path}"])


if __name__ == "__main__":
    sys.exit(main())
