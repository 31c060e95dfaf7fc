"""Drawings of four shapes with noise, 16×16 grey: images that a programme makes or reads."""

import numpy as np
import torch

from mint_cli.data.images import split
from mint_cli.protocol import Images

SIDE = 16


def mine(root, /, *, images: int, noise: float, validation: int, seed: int, mean, std):
    """Drawings for training, half as many for testing; files would lie below ``root``."""
    train, test = drawings(images, noise, [seed, 0]), drawings(images // 2, noise, [seed, 1])
    return split(train, test, 4, validation, seed, mean, std)


def drawings(count: int, noise: float, seed: list[int]) -> Images:
    """Discs, rings, squares and crosses, anywhere and of any size, in turn."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    pixels = rng.normal(90, 255 * noise, (count, SIDE, SIDE))
    for i in range(count):
        (cx, cy), radius = rng.uniform(5, SIDE - 6, 2), rng.uniform(3, 5)
        dx, dy = abs(x - cx), abs(y - cy)
        far, across, near = np.hypot(dx, dy), np.maximum(dx, dy), np.minimum(dx, dy)
        shapes = (
            far <= radius,
            abs(far - radius) <= 1,
            across <= radius,
            (across <= radius) & (near <= 1),
        )
        pixels[i] += 100 * shapes[i % 4]
    grey = torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))[:, None]
    return Images(grey, torch.arange(count) % 4)
