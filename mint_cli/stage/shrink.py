"""The pruned network without what it no longer needs: physically smaller, the same outputs."""

from __future__ import annotations

import logging

import torch
from torch import nn

from mint_cli.data import images as im
from mint_cli.errors import first_line
from mint_cli.granularity.filters import filters
from mint_cli.network import surgery
from mint_cli.network.couplings import Recorded
from mint_cli.network.idle import settled
from mint_cli.network.layers import record
from mint_cli.protocol import Tensors
from mint_cli.stage.common import Network, Result, part, prefixed
from mint_cli.store import Artifact, Context

log = logging.getLogger(__name__)

EXACT = 1e-5  # most that outputs may differ by, relative to the largest logit
IMAGES = 16  # on which they are compared
FAILURES = (RuntimeError, ValueError, IndexError, TypeError, AttributeError, AssertionError)


def shrink(network: Network, pruned: Artifact, context: Context) -> Result:
    """The network with its idle channels taken out, and how far its outputs are from the masked one's.

    Where some part cannot be made smaller the masked network is kept, and the record says why.
    """
    masked = network.build(part("state", pruned)).to(context.device)
    images = network.data.splits.train
    x = im.plain(images, torch.arange(min(IMAGES, len(images)))).to(context.device)
    small, rows, columns, found = masked, {}, {}, {"difference": 0.0, "reason": None}
    try:
        small, rows, columns = smaller(masked, network.pixels, x)
        found["difference"] = surgery.difference(masked, small, x)
        if not found["difference"] <= EXACT:
            found["reason"] = f"its outputs differ by {found['difference']:.1e} of the largest logit"
    except FAILURES as error:
        found["reason"] = first_line(error)
    if found["reason"]:
        log.warning("the network is not made smaller: %s; the masked one is kept", found["reason"])
        small, rows, columns = masked, {}, {}
    tensors = prefixed("state", small.state_dict())
    return tensors | prefixed("rows", rows) | prefixed("columns", columns), found


def smaller(
    model: nn.Module, pixels: tuple[int, ...], x: torch.Tensor
) -> tuple[nn.Module, Tensors, Tensors]:
    """The network without its idle channels, and which rows and columns of which modules are left."""
    layers = {name: layer for name, layer in record(model, pixels).items() if not layer.refusals}
    cells = filters(Recorded(model, pixels), layers, residual=True)
    model, kept = settled(model, cells, x)
    rows, columns = surgery.indices(cells, kept)
    return surgery.shrink(model, cells, kept), rows, columns
