"""No compensation: the kept weights stay as they are."""

from __future__ import annotations

import numpy as np
from torch import nn

from mint_cli.protocol import Images, Masks, Tensors


def none(model: nn.Module, masks: Masks, images: Images, rng: np.random.Generator, /) -> tuple[Masks, Tensors]:
    """The masks as they are and no changed tensors."""
    return masks, {}
