"""The command line as the tests call it, and where the real data sets lie."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig

from mint_cli import commandline

ROOT = Path(__file__).parent.parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}  # small networks gain nothing by more


def composed(*arguments_typed: str) -> DictConfig:
    """The configuration that ``mint-run`` makes of these arguments, in this process."""
    return commandline.composed(list(arguments_typed))


def mint_run(folder: Path, *overrides: str, **environment: str) -> subprocess.CompletedProcess:
    """Run ``mint-run`` as a user would, in ``folder``."""
    return subprocess.run(
        [sys.executable, "-m", "mint_cli.main", *overrides],
        cwd=folder,
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def data_root(name: str, file: str) -> str:
    """The data root that holds ``file``; the test is skipped where there is none."""
    for root in (os.environ.get("MINT_DATA", ""), str(ROOT / "data")):
        if root and (Path(root) / file).exists():
            return root
    pytest.skip(f"the {name} files are not here (MINT_DATA)")


def mnist_root() -> str:
    """Folder of the real MNIST files."""
    return data_root("MNIST", "MNIST/raw/train-images-idx3-ubyte")


def cifar10_root() -> str:
    """Folder of the real CIFAR-10 files."""
    return data_root("CIFAR-10", "cifar-10-batches-py/test_batch")
