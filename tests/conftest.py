"""What several tests share: small images, a context, a command line in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mint_cli.protocol import Images
from mint_cli.store import Context, Scratch

ROOT = Path(__file__).parent.parent


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


def mint_run(folder: Path, *overrides: str, **environment: str) -> subprocess.CompletedProcess:
    """Run ``mint-run`` as a user would, in ``folder``."""
    return subprocess.run(
        [sys.executable, "-m", "mint_cli.main", *overrides],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def mnist_root() -> str:
    """Folder of the real MNIST files; the test is skipped where they are not."""
    for root in (os.environ.get("MINT_DATA", ""), str(ROOT / "data")):
        if root and (Path(root) / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
            return root
    pytest.skip("the MNIST files are not here (MINT_DATA)")
