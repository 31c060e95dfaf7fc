"""Input patches of single output positions of a convolution, read where they lie instead of
unfolding whole maps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def readable(module: nn.Module) -> bool:
    """Whether a layer is a convolution whose padding is zeros, so many on either side."""
    plain = isinstance(module, nn.Conv2d) and module.padding_mode == "zeros"
    return plain and not isinstance(module.padding, str)


def corners(module: nn.Conv2d, width: int, padded: int, at: Tensor) -> Tensor:
    """Pixels (n, positions, kernel) that patches read of a map ``padded`` wide; outputs are
    ``width`` wide.
    """
    (sy, sx), (dy, dx), (ky, kx) = module.stride, module.dilation, module.kernel_size
    top = (at // width * sy) * padded + at % width * sx
    down, right = (torch.arange(size, device=at.device) for size in (ky, kx))
    return top[:, :, None] + (down[:, None] * dy * padded + right * dx).flatten()


def patches(module: nn.Conv2d, entering: Tensor, width: int, at: Tensor) -> Tensor:
    """Patches (n · positions, kernel × in), channels fastest, of ``entering`` (n, in, h, w) at
    ``at`` (n, positions).
    """
    (py, px), n = module.padding, len(entering)
    padded = nn.functional.pad(entering, (px, px, py, py)).permute(0, 2, 3, 1)
    size, wide = padded.shape[1] * padded.shape[2], padded.shape[2]
    image = torch.arange(n, device=at.device)[:, None, None]
    pixel = corners(module, width, wide, at) + image * size
    return padded.reshape(n * size, -1).index_select(0, pixel.flatten()).view(at.numel(), -1)


def flat_order(module: nn.Conv2d) -> Tensor:
    """Where the columns of the flat weight (in × kernel) are among those of patches (kernel × in),
    int64.
    """
    kernel = module.weight[0, 0].numel()
    return torch.arange(module.weight[0].numel()).view(kernel, -1).T.flatten()
