"""``mint-oracle``: what removing each channel alone does, and which criterion foresees it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mint_cli import check, files, machine
from mint_cli.commandline import composed, message
from mint_cli.compose import Job, build, check_settings, job_of, resolved, settle_precision, typed
from mint_cli.correlation import Sites, correlations
from mint_cli.errors import SettingError
from mint_cli.experiment import Experiment, plan
from mint_cli.protocol import Cells
from mint_cli.report import oracle as report
from mint_cli.stage.oracle import oracle
from mint_cli.stage.score import score
from mint_cli.store import Step, Store, describe, step

PART = 25  # images of one step: more images add parts to those that are stored
CRITERIA = (
    *("min_weight", "activation_mean", "activation_std", "apoz", "mutual_information", "obd"),
    *("taylor_activation", "taylor_weight", "taylor", "l1", "elimination", "gmi"),
    *("gaussian", "random"),
)
FILTERS = "granularity@pruner.granularity=filters"
INTERRUPTED = (
    "interrupted; what is finished stays in the store, the same command goes on from there"
)


@dataclass(frozen=True)
class Measured:
    """Loss of every image, and whether it is right, without every map: (maps, images) a site.

    Site ``dense`` is the network with nothing removed, (images,).
    """

    losses: Sites
    right: Sites
    seconds: float

    def changes(self, chosen: slice = slice(None)) -> dict[str, Sites]:
        """Mean change of ``loss`` and ``accuracy`` on some of the images, (maps,) a site."""
        return {
            "loss": change(self.losses, chosen),
            "accuracy": change(self.right, chosen),
        }

    def absolute(self, chosen: slice = slice(None)) -> Sites:
        """Size of the loss's change, what criteria are judged by."""
        return {site: np.abs(own) for site, own in change(self.losses, chosen).items()}


def change(values: Sites, chosen: slice) -> Sites:
    """Mean over images without every map, less that of the dense network."""
    dense = values["dense"][chosen].mean()
    return {s: own[:, chosen].mean(1) - dense for s, own in values.items() if s != "dense"}


def criteria_of(
    settings: list[str], names: list[str], job: Job, cells: dict[str, Cells]
) -> dict[str, partial]:
    """The criteria of the named pruners; SettingError for one that cannot score the channels."""
    e, found = job.experiment, {}
    layers = e.sites.layers(e.network)
    for name in names:
        cfg = composed([FILTERS, *settings, f"pruner={name}"])
        with typed(cfg):
            plain = resolved(cfg)
            check_settings(plain)
            settle_precision(plain["schedule"], job.device)
            found[name] = build(plain, Path.cwd()).criterion
            labels = e.data.splits.train.labels
            check.check_plugin("criterion", found[name], layers, cells, labels)
    return found


def parts(e: Experiment, images: int) -> list[Step]:
    """The steps of the oracle on so many images, none of them taken."""
    most = len(e.data.splits.train)
    if not 2 <= images <= most:
        bound = f"must lie between 2 and {most}, the training images"
        raise SettingError("--images", bound, images)
    dense = plan(e).train
    bounds = [(first, min(first + PART, images)) for first in range(0, images, PART)]
    return [step(oracle, e.network, e.sites, e.seed, *pair, dense) for pair in bounds]


def measured(steps: list[Step], order: list[str], store: Store) -> Measured:
    """All parts together, taken where they are not stored; sites in the given order."""
    found = [store.get(one) for one in tqdm(steps, disable=None, unit="part")]

    def joined(kind: str) -> Sites:
        every = {site: [f.tensors[f"{kind}/{site}"] for f in found] for site in ("dense", *order)}
        return {
            s: np.concatenate([np.asarray(t.double()) for t in own], -1) for s, own in every.items()
        }

    return Measured(joined("losses"), joined("right"), sum(part.seconds for part in found))


def study(settings: list[str], names: list[str], images: int, resamples: int, out: Path) -> str:
    """Measure, score, correlate, and write everything into ``out``; returns the page."""
    cfg = composed([FILTERS, *settings, f"pruner={names[0]}"])
    job = job_of(cfg, Path.cwd())
    e = job.experiment
    steps = parts(e, images)
    with typed(cfg), check.of("granularity"):
        cells = e.sites.cells(e.network)
    criteria = criteria_of(settings, names, job, cells)
    machine.use(job.device, e.threads)
    store, order = Store(job.store, job.device), list(cells)
    found = measured(steps, order, store)
    scores, seconds = {}, {}
    for name, own in tqdm(criteria.items(), disable=None, unit="criterion"):
        made = store.get(step(score, e.network, e.sites, own, e.seed, 1, plan(e).train))
        scores[name] = {site: np.asarray(made.tensors[site].double()) for site in order}
        seconds[name] = made.seconds
    record = {
        "schema": 1,
        **summary(job, found, images),
        **compared(scores, found, resamples, e.seed),
        "resamples": resamples,
        "seconds": {"oracle": found.seconds, **seconds},
        "criteria": {name: describe(own) for name, own in criteria.items()},
        "config": {
            k: v for k, v in job.settings.items() if k not in ("pruner", "schedule", "store")
        },
        "skip": e.skip,
        "granularity": describe(e.granularity),
        "environment": machine.environment(job.device),
    }
    write(out, record, found, scores)
    return report.text(record)


def summary(job: Job, found: Measured, images: int) -> dict[str, Any]:
    """What the oracle is of, and what it says of the whole network."""
    losses = np.concatenate(list(found.changes()["loss"].values()))
    return {
        "model": job.settings["model"]["_target_"].rpartition(".")[2],
        "dataset": job.settings["dataset"]["_target_"].rpartition(".")[2],
        "oracle": {
            "images": images,
            "maps": len(losses),
            "sites": len(found.losses) - 1,
            "loss": float(found.losses["dense"].mean()),
            "accuracy": float(found.right["dense"].mean()),
            "helps": int((losses < 0).sum()),
            "idle": int((losses == 0).sum()),
        },
    }


def compared(
    scores: dict[str, Sites], found: Measured, resamples: int, seed: int
) -> dict[str, Any]:
    """Correlations of every criterion, of the signed oracle, and of the oracle's own halves."""

    def against(given: Sites, other: Sites) -> dict[str, dict[str, Any]]:
        rng = np.random.default_rng(seed)
        return {k: asdict(v) for k, v in correlations(given, other, resamples, rng).items()}

    reference = found.absolute()
    every = {**scores, "oracle_loss": found.changes()["loss"]}
    first, second = (found.absolute(slice(start, None, 2)) for start in (0, 1))
    return {
        "correlations": {name: against(own, reference) for name, own in every.items()},
        "halves": against(first, second),
    }


def write(out: Path, record: dict[str, Any], found: Measured, scores: dict[str, Sites]) -> None:
    """The record, the page, every map's numbers, and the plot."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    files.put(out / "oracle.json", text.encode())
    files.put(out / "oracle.md", report.text(record).encode())
    files.put(out / "maps.csv", report.rows(found.changes(), scores).encode())
    values = {name: record["correlations"][name]["all_layers"]["value"] for name in scores}
    report.scatter(out / "scatter.png", scores, found.absolute(), values)


def options(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="mint-oracle", description=__doc__.partition(": ")[2])
    add = parser.add_argument
    add(
        "settings", nargs="*", metavar="KEY=VALUE", help="as of mint-run: network, data, checkpoint"
    )
    add("--images", type=int, default=1000, help="training images that losses are measured on")
    add("--criteria", default=",".join(CRITERIA), help="pruners whose criteria are compared: a,b,…")
    add("--resamples", type=int, default=1000, help="of the maps, for the intervals")
    add("--out", type=Path, default=Path("outputs/oracle"), metavar="DIR")
    return parser.parse_intermixed_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``mint-oracle``: 0, or 1 and one sentence."""
    machine.prepare()
    asked = options(argv)
    try:
        names = [name for name in asked.criteria.split(",") if name]
        if not names:
            raise SettingError("--criteria", "must name pruners", repr(asked.criteria))
        if asked.resamples < 1:
            raise SettingError("--resamples", "must be at least 1", asked.resamples)
        print(study(asked.settings, names, asked.images, asked.resamples, asked.out))
        return 0
    except KeyboardInterrupt:
        print(f"mint-oracle: {INTERRUPTED}", file=sys.stderr)
        return 130
    except Exception as error:
        told = message(error, asked.settings)
        if told is None:
            raise
        print(f"mint-oracle: {told}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
