"""Information by counting neighbours, for many pairs at once."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import digamma
from torch import Tensor


def information(
    child: Tensor, child_starts: Tensor, parent: Tensor, parent_starts: Tensor, neighbours: int
) -> Tensor:
    """Frenzel–Pompe conditional information, nats, float64 (child groups, parent groups), given the
    other parent groups.

    Channels (n, channels) are compared by their largest gap; group g owns columns ``starts[g]`` up
    to ``starts[g + 1]``. Memory does not grow with the number of samples times channels of more
    than one sample.
    """
    from mint_cli.kernel import cpu
    from mint_cli.kernel.threads import as_many_as_torch

    psi = np.zeros(len(child) + 1)
    psi[1:] = digamma(np.arange(1, len(child) + 1))
    x, y = (side.T.contiguous().float().numpy() for side in (child, parent))
    with as_many_as_torch():
        return torch.from_numpy(
            cpu.neighbour_information(
                x, child_starts.numpy(), y, parent_starts.numpy(), neighbours, psi
            )
        )
