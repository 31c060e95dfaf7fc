"""Squared first-order change of the loss by a channel's parameters (Molchanov et al. 2019)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli.data import images as im
from mint_cli.network import maps
from mint_cli.network.cells import summed
from mint_cli.network.idle import sides
from mint_cli.network.layers import batch_norms, differentiable, differentiated
from mint_cli.protocol import Cells, Estimate, Images, Tensors, checked_by


@checked_by(maps.check)
def taylor_weight(
    model: nn.Module,
    cells: dict[str, Cells],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    samples_per_class: int,
    batch_size: int,
    normalise: bool,
) -> dict[str, Estimate]:
    """Mean over batches of (Σ gradient × parameter)², plain pixels; ``normalise`` as in l1.

    The sum is over the factors and biases of the batch norms that a channel passes; without any,
    over the weights and biases of all layers that make it.  ("Importance estimation for neural
    network pruning", CVPR 2019, eq. 8, and its gates after batch norms.)
    """
    gates = {site: gate(model, own) for site, own in cells.items()}
    parts = im.halves(images, samples_per_class, rng)
    changes = [squared(model, gates, images, index, batch_size) for index in parts]
    whole = {site: torch.cat([side[site] for side in changes]).mean(0) for site in cells}
    halves = tuple({site: side[site].mean(0) for site in cells} for side in changes)
    return maps.estimates(whole, halves, normalise)


def gate(model: nn.Module, cells: Cells) -> Cells:
    """The cells of a site, of those parameters alone that the sum is over."""
    parameters, norms = dict(model.named_parameters()), batch_norms(model)
    makers = sides(cells, dict(model.named_modules()))[1]
    own = {name: labels for name, labels in cells.labels.items() if name in parameters}
    by_norm = {name: labels for name, labels in own.items() if module_of(name) in norms}
    made = {n: labels for n, labels in own.items() if module_of(n) in makers and labels.ndim == 1}
    return Cells(cells.shape, by_norm or made)


def module_of(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def squared(
    model: nn.Module, gates: dict[str, Cells], images: Images, index: Tensor, batch_size: int
) -> Tensors:
    """Squared change of the mean loss of every batch, (batches, cells) a site."""
    names = list(dict.fromkeys(name for own in gates.values() for name in own.labels))
    parameters = {name: model.get_parameter(name) for name in names}
    found: dict[str, list[Tensor]] = {site: [] for site in gates}
    for _, x, labels in maps.labelled(model, images, index, batch_size):
        with differentiable(parameters.values()), differentiated(), torch.enable_grad():
            loss = nn.functional.cross_entropy(model(x), labels)
            gradients = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
        products = {
            n: p.detach() * g for (n, p), g in zip(parameters.items(), gradients, strict=True)
        }
        for site, own in gates.items():
            found[site].append(summed(own, products).square())
    return {site: torch.stack(own) for site, own in found.items()}
