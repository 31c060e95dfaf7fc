"""What removing each whole channel alone does to a part of the training images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from mint_cli.data import images as im
from mint_cli.network.cells import check_filters
from mint_cli.network.removal import COPIES, Removals
from mint_cli.protocol import Tensors
from mint_cli.stage.common import Network, Result, Sites, part, prefixed, stream
from mint_cli.store import Artifact, Context


def oracle(
    network: Network,
    sites: Sites,
    seed: int,
    first: int,
    last: int,
    dense: Artifact,
    context: Context,
) -> Result:
    """Loss of every image, and whether it is right, without each channel: (channels, images) a
    site.

    ``first`` to ``last`` number the images in an order that the seed draws, so that further parts
    add images to those of earlier ones; plain pixels, never test images.  ``dense`` are losses and
    right answers of the network with nothing removed, (images,).
    """
    model = network.build(part("state", dense)).to(
        context.device, memory_format=torch.channels_last
    )
    cells = sites.cells(network)
    check_filters(cells)
    images = network.data.splits.train
    order = np.random.default_rng(stream(seed, "oracle")).permutation(len(images))
    index = torch.from_numpy(order[first:last])
    labels = images.labels[index].to(context.device)
    removals = Removals(model, cells, im.plain(images, index).to(context.device), labels, COPIES)
    losses, right = {}, {}
    losses["dense"], right["dense"] = removals.dense()
    with tqdm(total=sum(removals.sizes.values()), disable=None, unit="map", leave=False) as bar:
        done = 0
        for site in removals.in_order():
            kept = context.scratch.once(site, partial(without, removals, site, bar.update))
            done += removals.sizes[site]
            bar.update(done - bar.n)  # what an earlier run had done
            losses[site], right[site] = kept["losses"], kept["right"]
    return prefixed("losses", losses) | prefixed("right", right), {"index": index.tolist()}


def without(removals: Removals, site: str, note: Callable[[int], None]) -> Tensors:
    """What the losses and right answers are without every channel of a site."""
    losses, right = removals.without(site, note)
    return {"losses": losses, "right": right}
