"""Which network delivers the inputs of a least-squares problem."""

from __future__ import annotations

from torch import nn

from mint_cli.errors import SettingError
from mint_cli.network.replay import Walk

INPUTS = ("dense", "pruned")


def check_inputs(inputs: str) -> None:
    """SettingError unless the inputs are of a network that there is."""
    if inputs not in INPUTS:
        raise SettingError("inputs", f"must be one of {', '.join(INPUTS)}", inputs)


def walks(model: nn.Module, pruned: nn.Module, layers: list[str], inputs: str) -> tuple[Walk, Walk]:
    """Walks through the dense network and through the one that delivers the inputs, which may be
    the same.
    """
    dense = Walk(model, layers, still=True)
    return dense, Walk(pruned, layers) if inputs == "pruned" else dense
