"""A context whose stages leave no progress: several of one test share it."""

from __future__ import annotations

import math

import pytest
import torch

from mint_cli.store import Context, Scratch


@pytest.fixture
def context(tmp_path) -> Context:
    return Context(torch.device("cpu"), Scratch(tmp_path / "progress", seconds_between=math.inf))
