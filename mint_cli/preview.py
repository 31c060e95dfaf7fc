"""What an experiment with whole channels could take, and would take, without taking it."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from functools import partial

import numpy as np
import torch
from torch import nn

from mint_cli import check
from mint_cli.allocation.layer_quota import layer_quota
from mint_cli.criterion.l1 import l1
from mint_cli.data import images as im
from mint_cli.errors import SettingError
from mint_cli.experiment import Experiment, flagged
from mint_cli.granularity.filters import staying
from mint_cli.network import checkpoint as ck
from mint_cli.network.couplings import IMAGE, Recorded
from mint_cli.network.idle import sides
from mint_cli.network.layers import inference
from mint_cli.protocol import Cells, Kept

NAMED = 3  # layers of a set, and
LAYERS = 6  # layers that stay for one reason, that are named
BATCH = 100  # images of which the time is measured
UNITS = {"macs": "multiply-accumulates", "parameters": "parameters", "cells": "channels"}


def preview(e: Experiment) -> str:
    """What can go, with what, what stays and why, and what the budget would take; in lines.

    Raises SettingError or DataError for all that a run would refuse before its work.
    """
    if not flagged(e.granularity, "removable"):
        raise SettingError("granularity", "must be filters, whole channels, for a dry run")
    check.check(e)
    model = e.network.build()
    if e.checkpoint:
        ck.load(e.checkpoint, model)
    recorded, layers = Recorded(model, e.network.pixels), e.sites.layers(e.network)
    cells = e.granularity(recorded, layers)
    kept = choice(e, model, cells)
    reasons = staying(recorded, layers, e.granularity.keywords["residual"])
    told = [*sets(model, cells, kept), "", *stays(reasons), "", *budget(e, cells, kept)]
    return "\n".join([*told, *seconds(e, model)])


def choice(e: Experiment, model: nn.Module, cells: dict[str, Cells]) -> Kept:
    """What would be kept by the mean absolute weight of channels, set by set.

    By the allocation where that is exact; else every set gives up the same share.
    """
    nothing = np.random.default_rng(0)  # l1 draws none
    estimates = l1(model, cells, e.data.splits.train, nothing, normalise=True)
    scores = {site: own.score for site, own in estimates.items()}
    allocation = e.allocation if exact(e) else partial(layer_quota)
    return e.budgets[-1].allocate(allocation, scores, cells, e.sites.ledger(e.network))


def exact(e: Experiment) -> bool:
    """Whether a run takes as many channels of every set as are counted here."""
    by_l1 = e.criterion.func is l1 and e.criterion.keywords.get("normalise")
    return flagged(e.allocation, "by_site") or bool(by_l1)


def sets(model: nn.Module, cells: dict[str, Cells], kept: Kept) -> list[str]:
    """A line for every set of channels: their number, how many go, who makes and reads them."""
    modules = dict(model.named_modules())
    rows = [("set", "channels", "go", "made by", "read by")]
    for site, own in cells.items():
        reads, makes = sides(own, modules)
        gone = int((~kept[site]).sum())
        rows.append((site, str(own.shape[0]), str(gone), some(makes), some(reads)))
    a, b, c, d = (max(len(row[i]) for row in rows) for i in range(4))
    lines = [
        f"{site:<{a}}  {count:>{b}}  {gone:>{c}}  {made:<{d}}  {read}"
        for site, count, gone, made, read in rows
    ]
    count = sum(own.shape[0] for own in cells.values())
    return [f"{count:,} channels in {len(cells)} sets can go", "", *lines]


def some(names, most: int = NAMED) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def stays(reasons: dict[str, str]) -> list[str]:
    """A line for every reason why layers keep all channels that they make."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for maker, why in reasons.items():
        if maker != IMAGE:
            by_reason[why].append(maker)
    return ["all channels stay of", *(f"  {some(m, LAYERS)}: {w}" for w, m in by_reason.items())]


def budget(e: Experiment, cells: dict[str, Cells], kept: Kept) -> list[str]:
    """What the budget comes to, in every unit, and how far the numbers by set can be relied on."""
    ledger = e.sites.ledger(e.network)
    asked = e.budgets[-1]
    lines = []
    for of, name in UNITS.items():
        whole, gone = ledger.whole(cells, of), ledger.removed(cells, kept, of)
        wanted = f", asked {asked.sparsity}" if of == asked.of and asked.sparsity else ""
        lines.append(f"{name}: {gone / whole:.4f} of {whole:,} would go{wanted}")
    if flagged(e.allocation, "by_site"):
        return [*lines, "every set gives up the same share: these numbers are exact"]
    score = e.criterion.func.__name__
    rough = f"counted as if every set gave up the same share; {score} will share out otherwise"
    return lines if exact(e) else [*lines, rough]


def seconds(e: Experiment, model: nn.Module) -> list[str]:
    """How long evaluation and retraining take, by the time of one batch."""
    train = e.data.splits.train
    x = im.plain(train, torch.arange(min(BATCH, len(train))))
    with inference(model):
        model(x)
        began = time.perf_counter()
        model(x)
    each = (time.perf_counter() - began) / len(x)
    measured = 3 * (len(e.data.splits.test) + len(e.data.splits.validation)) * each
    lines = [f"about {math.ceil(measured)} s to measure three networks on the CPU"]
    if e.retrain.epochs:
        trained = 3 * e.retrain.epochs * len(train) * each  # backwards takes twice as long
        lines.append(f"about {math.ceil(trained)} s to retrain; a GPU or bfloat16 units take less")
    return [*lines, "how long scores and refits take is not estimated"]
