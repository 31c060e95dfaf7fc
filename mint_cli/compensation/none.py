"""No compensation: the kept weights stay as they are."""

from __future__ import annotations

import numpy as np
from torch import nn

from mint_cli.protocol import Cells, Images, Kept, Tensors


def none(
    model: nn.Module,
    cells: dict[str, Cells],
    kept: Kept,
    gone: Kept,
    images: Images,
    rng: np.random.Generator,
    /,
) -> tuple[Kept, Tensors]:
    """The choice as it is and no changed tensors."""
    return kept, {}
