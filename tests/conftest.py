"""What several tests share: small images and a context."""

from __future__ import annotations

import pytest
import torch

from mint_cli.protocol import Images
from mint_cli.store import Context, Scratch

# small tensors gain nothing by more, and a busy machine costs nothing then
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed() -> None:
    """Whatever a test draws without a generator of its own is the same in every run."""
    torch.manual_seed(0)


@pytest.fixture
def context(tmp_path) -> Context:
    return Context(torch.device("cpu"), Scratch(tmp_path / "progress"))


@pytest.fixture
def images() -> Images:
    """300 images of three classes that a small network can tell apart."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    pixels = torch.randint(0, 60, (300, 1, 6, 6), generator=generator, dtype=torch.uint8)
    for c in range(3):
        pixels[labels == c, :, 2 * c : 2 * c + 2] += 150
    return Images(pixels, labels)
