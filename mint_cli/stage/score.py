"""Scores of all cells."""

from __future__ import annotations

import logging
from functools import partial

import numpy as np
import torch

from mint_cli import reliability
from mint_cli.data import images as im
from mint_cli.errors import DataError
from mint_cli.protocol import Cells, Estimate
from mint_cli.solver.progress import kept_by
from mint_cli.stage.common import Network, Result, Sites, part, stream
from mint_cli.store import Artifact, Context, versioned

log = logging.getLogger(__name__)

NOISE = 0.3  # agreement of two halves below which a ranking is mostly noise


@versioned(2)
def score(
    network: Network,
    sites: Sites,
    criterion: partial,
    seed: int,
    round: int,
    dense: Artifact,
    context: Context,
) -> Result:
    """Scores of every cell by the criterion, and how far they can be relied on."""
    model = network.build(part("state", dense)).to(
        context.device, memory_format=torch.channels_last
    )
    rng = np.random.default_rng(stream(seed, "score", round))
    train_images = im.to(network.data.splits.train, context.device)
    cells = sites.cells(network)
    with kept_by(context.scratch.once):
        estimates = criterion(model, cells, train_images, rng)
    check_estimates(criterion.func.__name__, cells, estimates)
    report = {name: reliability.report(estimate) for name, estimate in estimates.items()}
    warn_of_noise(report)
    additive = all(estimate.additive for estimate in estimates.values())
    scores = {name: estimate.score.double().cpu() for name, estimate in estimates.items()}
    return scores, {"reliability": report, "additive": additive}


def check_estimates(
    criterion: str, cells: dict[str, Cells], estimates: dict[str, Estimate]
) -> None:
    """DataError unless there is a finite score for every cell."""
    for site in (*cells, *estimates):
        if site not in estimates or site not in cells:
            kind = "no score" if site in cells else "a score for what is none"
            raise DataError(f"criterion {criterion} gave {kind}: {site}")
    for site, estimate in estimates.items():
        given, wanted = tuple(estimate.score.shape), tuple(cells[site].shape)
        if given != wanted:
            raise DataError(
                f"criterion {criterion} gave scores of shape {given} for {site}, whose cells "
                f"are {wanted}"
            )
        if not estimate.score.isfinite().all():
            raise DataError(f"criterion {criterion} gave a score that is not finite in {site}")


def warn_of_noise(report: dict[str, dict[str, float | None]]) -> None:
    """One warning line when two halves hardly agree, one when scores do not rank at all."""
    poor = [
        name for name, r in report.items() if r["agreement"] is not None and r["agreement"] < NOISE
    ]
    if poor:
        log.warning(
            "the ranking is mostly noise: two halves agree below %.1f (Spearman) in %s",
            NOISE,
            ", ".join(poor),
        )
    level = [name for name, r in report.items() if r["equal"]]
    if level:
        log.warning(
            "all scores are equal in %s: cells go there in the order of their place",
            ", ".join(level),
        )
