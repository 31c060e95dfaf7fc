"""The pruned network without what it no longer needs, or the masked one and the reason."""

import logging
from functools import partial
from pathlib import Path

import torch
from experiments import NONE, SMALL, network, sites, stripes
from torch import nn

from mint_cli.granularity.filters import filters
from mint_cli.stage.budget import Budget
from mint_cli.stage.common import Data, Network, part, prefixed
from mint_cli.stage.prune import prune
from mint_cli.stage.shrink import shrink
from mint_cli.store import Artifact

CHANNELS = partial(filters, residual=True)


def pruned(context, sparsity=0.5) -> Artifact:
    """Half of the channels of a residual network, by chance."""
    from mint_cli.allocation.capped_quota import capped_quota

    own, where = network(SMALL), sites(CHANNELS)
    dense = Artifact(prefixed("state", own.build().state_dict()), {}, 0.0)
    generator = torch.Generator().manual_seed(0)
    scores = {n: torch.rand(c.shape, generator=generator) for n, c in where.cells(own).items()}
    settings = (Budget(sparsity, "cells"), partial(capped_quota, cap=1.0, caps={}), NONE, 0, 0, 1)
    tensors, metrics = prune(own, where, *settings, dense, Artifact(scores, {}, 0.0), context)
    return Artifact(tensors, metrics, 0.0)


def test_a_network_that_has_lost_channels_is_smaller_and_gives_the_same(context):
    found = pruned(context)
    tensors, metrics = shrink(network(SMALL), found, context)
    assert metrics["reason"] is None and metrics["difference"] < 1e-5
    for figure in ("parameters", "macs"):
        assert metrics[figure]["shrunken"] < 0.7 * metrics[figure]["masked"]
    small = part("state", Artifact(tensors, metrics, 0.0))
    assert sum(v.numel() for n, v in small.items() if "weight" in n or "bias" in n) == (
        metrics["parameters"]["shrunken"]
    )


def test_it_says_which_rows_and_columns_of_which_modules_are_left(context):
    tensors, _ = shrink(network(SMALL), pruned(context), context)
    found = Artifact(tensors, {}, 0.0)
    rows, columns, state = (part(name, found) for name in ("rows", "columns", "state"))
    masked = part("state", pruned(context))
    for name in ("inner", "outer"):
        whole = masked[f"{name}.weight"]
        taken = whole[rows[name]][:, columns[name]]
        assert torch.equal(taken, state[f"{name}.weight"])


def test_a_network_that_has_lost_nothing_stays_as_it_is(context):
    own = network(SMALL)
    dense = Artifact(prefixed("state", own.build().state_dict()), {}, 0.0)
    tensors, metrics = shrink(own, dense, context)
    assert metrics["macs"]["masked"] == metrics["macs"]["shrunken"] and metrics["difference"] == 0.0
    state = part("state", Artifact(tensors, {}, 0.0))
    assert all(torch.equal(value, state[name]) for name, value in part("state", dense).items())


class Looping(nn.Module):
    """Its only layer that could be smaller cannot be probed: it reads numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.out = nn.Conv2d(1, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        x = self.a(x)
        if not bool(x.isfinite().all()):
            raise ValueError("numbers are missing")
        return self.out(x.relu().mean((2, 3)))


def looping(shape, classes, /):
    return Looping()


def test_where_nothing_can_be_smaller_the_masked_network_is_kept_and_the_reason_told(context, caplog):
    own = Network(Data(partial(stripes, validation=0), Path()), partial(looping), 0, 1)
    dense = Artifact(prefixed("state", own.build().state_dict()), {}, 0.0)
    with caplog.at_level(logging.WARNING):
        tensors, metrics = shrink(own, dense, context)
    assert "leaves no channel that can go" in metrics["reason"]
    assert "the network is not made smaller" in caplog.text and "the masked one is kept" in caplog.text
    state = part("state", Artifact(tensors, {}, 0.0))
    assert all(torch.equal(value, state[name]) for name, value in part("state", dense).items())
    assert metrics["macs"]["masked"] == metrics["macs"]["shrunken"]
