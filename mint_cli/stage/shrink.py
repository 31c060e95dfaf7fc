"""The pruned network without what it no longer needs: physically smaller, the same outputs."""

from __future__ import annotations

import logging

import torch
from torch import nn

from mint_cli.data import images as im
from mint_cli.errors import SettingError, first_line
from mint_cli.granularity.filters import filters
from mint_cli.network import surgery, units
from mint_cli.network.couplings import Recorded
from mint_cli.network.idle import settled
from mint_cli.network.layers import record
from mint_cli.protocol import Tensors
from mint_cli.stage.common import Network, Result, part, prefixed
from mint_cli.store import Artifact, Context, versioned

log = logging.getLogger(__name__)

EXACT = 1e-5  # most that outputs may differ by, relative to the largest logit
IMAGES = 16  # on which they are compared
FAILURES = (RuntimeError, ValueError, IndexError, TypeError, AttributeError, AssertionError)


@versioned(2)
def shrink(network: Network, pruned: Artifact, context: Context) -> Result:
    """The network with its idle channels and units taken out, and how far its outputs are from the
    masked one's.

    Where some part cannot be made smaller the masked network is kept, and the record says why.
    """
    masked = network.build(part("state", pruned)).to(context.device)
    images = network.data.splits.train
    x = im.plain(images, torch.arange(min(IMAGES, len(images)))).to(context.device)
    small, lost, found = masked, {}, {"difference": 0.0, "reason": None}
    try:
        small, lost = smaller(masked, network.recorded, x)
        found["difference"] = surgery.difference(masked, small, x)
        if not found["difference"] <= EXACT:
            found["reason"] = (
                f"its outputs differ by {found['difference']:.1e} of the largest logit"
            )
    except FAILURES as error:
        found["reason"] = first_line(error)
    if found["reason"]:
        log.warning("the network is not made smaller: %s; the masked one is kept", found["reason"])
        small, lost = masked, {}
    return prefixed("state", small.state_dict()) | lost, found


def smaller(model: nn.Module, recorded: Recorded, x: torch.Tensor) -> tuple[nn.Module, Tensors]:
    """The network without its idle channels and units, and what it lost.

    ``recorded`` is one of the same modules, of whatever weights: its couplings may be known
    already.  ``rows/`` and ``columns/`` say which are left of a module, ``gone/`` names modules of
    units.
    """
    dark = units.gone(model, units.find(model, recorded.pixels).units)
    modules = [name for unit in dark for name in units.modules_of(unit)]
    replaced = [name for name in modules if surgery.replaceable(model.get_submodule(name))]
    layers = record(model, recorded.pixels)
    layers = {name: layer for name, layer in layers.items() if not layer.refusals}
    try:
        cells = filters(recorded, layers, residual=True)
    except SettingError:  # no channel can go
        if not replaced:
            raise
        cells = {}
    model, kept = settled(model, cells, x, replaced)
    rows, columns = surgery.indices(cells, kept)
    small = surgery.shrink(model, cells, kept)
    surgery.drop(small, replaced)
    gone = {name: torch.zeros(0, dtype=torch.bool) for name in replaced}
    return small, prefixed("rows", rows) | prefixed("columns", columns) | prefixed("gone", gone)
