"""A small residual network with a part of its cells kept, images for it, and how they are looked
at.
"""

from __future__ import annotations

import pytest
import torch
from networks import block_cells, residual
from torch import nn

from mint_cli.protocol import Cells, Images, Kept
from mint_cli.solver.rows import Calibration


@pytest.fixture
def model() -> nn.Module:
    return residual()


@pytest.fixture
def noise() -> Images:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (200, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.arange(200) % 3, 1, True)


@pytest.fixture
def cells(model) -> dict[str, Cells]:
    return block_cells(model)


@pytest.fixture
def kept(cells) -> Kept:
    generator = torch.Generator().manual_seed(2)
    return {name: torch.rand(own.shape, generator=generator) < 0.7 for name, own in cells.items()}


@pytest.fixture
def nothing(cells) -> Kept:
    """No cell is gone already."""
    return {name: torch.zeros(own.shape, dtype=torch.bool) for name, own in cells.items()}


@pytest.fixture
def calibration() -> Calibration:
    return Calibration(100, 16, 0.5, 0.9, 1e-6, 30)
