"""Information between a channel's activation and the class (Molchanov et al. 2017, section 2.2)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli.data import images as im
from mint_cli.errors import SettingError
from mint_cli.network import maps
from mint_cli.protocol import Cells, Estimate, Images, Layer, checked_by


def check(
    layers: dict[str, Layer],
    cells: dict[str, Cells],
    labels: Tensor,
    /,
    *,
    bins: int,
    **settings,
) -> None:
    """What all criteria of maps check, and bins that hold images each."""
    maps.check(layers, cells, labels, **settings)
    most = settings["samples_per_class"] * len(labels.unique()) // 2
    if not 2 <= bins <= most:
        raise SettingError("bins", f"must lie between 2 and {most}, half the images", bins)


@checked_by(check)
def mutual_information(
    model: nn.Module,
    cells: dict[str, Cells],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    samples_per_class: int,
    batch_size: int,
    bins: int,
    normalise: bool,
) -> dict[str, Estimate]:
    """H(activation) + H(class) − H(both) in nats; activation: a channel's mean over positions.

    Quantised into ``bins`` of as many images each, where values are not equal; frequencies stand
    for probabilities, which biases all channels upwards by about (bins − 1)(classes − 1) / 2n.
    Seen where the channel is read, plain pixels; ``normalise`` as in l1.
    """
    parts = im.halves(images, samples_per_class, rng)
    seen = [maps.image_means(model, cells, images, index, batch_size) for index in parts]
    targets = [images.labels.cpu()[index] for index in parts]
    whole = {site: torch.cat([side[site] for side in seen]) for site in cells}
    scores = [
        {site: information(values, labels, bins) for site, values in side.items()}
        for side, labels in ((whole, torch.cat(targets)), *zip(seen, targets, strict=True))
    ]
    return maps.estimates(scores[0], tuple(scores[1:]), normalise)


def information(values: Tensor, labels: Tensor, bins: int) -> Tensor:
    """Information of each column of values (n, cells) about labels (n,), nats, float64 (cells,)."""
    edges = torch.quantile(values, torch.linspace(0, 1, bins + 1, dtype=values.dtype)[1:-1], dim=0)
    classes = labels.unique(return_inverse=True)[1]
    found = []
    for column, own in zip(values.T.contiguous(), edges.T.contiguous(), strict=True):
        at = torch.bucketize(column, own)
        joint = torch.zeros(bins, int(classes.max()) + 1, dtype=torch.float64)
        joint.index_put_((at, classes), torch.ones(len(at), dtype=torch.float64), accumulate=True)
        found.append(entropy(joint.sum(0)) + entropy(joint.sum(1)) - entropy(joint.flatten()))
    return torch.stack(found)


def entropy(counts: Tensor) -> Tensor:
    """Entropy of frequencies in nats."""
    return torch.special.entr(counts / counts.sum()).sum()
