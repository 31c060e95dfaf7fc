"""What the stages share: where a network comes from, and named parts of artifacts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mint_cli.data.splits import checked, digest
from mint_cli.errors import owned
from mint_cli.network import surgery
from mint_cli.network.couplings import Recorded
from mint_cli.network.layers import normalise_inputs, prunable_layers, record, weight_counts
from mint_cli.protocol import Cells, Layer, Splits, Tensors
from mint_cli.stage.budget import Ledger
from mint_cli.store import Artifact

Result = tuple[Tensors, dict[str, Any]]


@dataclass(frozen=True)
class Data:
    """A data set plug-in and the folder its files are in; known by the plug-in and by what the
    splits hold.
    """

    dataset: partial
    root: Path

    @cached_property
    def splits(self) -> Splits:
        with owned("dataset"):
            return checked(self.dataset(self.root), self.dataset.func.__name__)

    @cached_property
    def content(self) -> str:
        """Digest of all that the splits hold."""
        return digest(self.splits)

    def identity(self) -> dict[str, Any]:
        """What a key knows of the data: no setting that the plug-in says changes no result."""
        beside = getattr(self.dataset.func, "indifferent", ())
        settings = {k: v for k, v in self.dataset.keywords.items() if k not in beside}
        return {"dataset": partial(self.dataset.func, **settings), "content": self.content}


@dataclass(frozen=True)
class Network:
    """How to build the network: the model plug-in for the shape and classes of the data,
    initialised from the seed.

    ``threads`` of the CPU it runs on: sums depend on their number, so every result is known by it.
    """

    data: Data
    model: partial
    seed: int
    threads: int

    @property
    def pixels(self) -> tuple[int, ...]:
        """Shape of an image, (c, h, w)."""
        return tuple(self.data.splits.train.pixels.shape[1:])

    @cached_property
    def recorded(self) -> Recorded:
        """The network for those who only look at it: built once, its couplings found once."""
        return Recorded(self.build(), self.pixels)

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """Every convolution and linear layer."""
        return record(self.recorded.model, self.pixels)

    def build(self, state: Tensors | None = None) -> nn.Module:
        """The network in evaluation mode, normalisation of its inputs included, with the tensors of
        ``state`` if given.
        """
        splits = self.data.splits
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(
                int(np.random.default_rng(stream(self.seed, "initialise")).integers(2**62))
            )
            model = self.model(self.pixels, splits.classes)
        normalise_inputs(model, splits.mean, splits.std)
        if state is not None:
            model.load_state_dict(state)
        return model.eval()

    def rebuild(self, artifact: Artifact) -> nn.Module:
        """The network of an artifact in evaluation mode, as small as it was left.

        ``rows`` and ``columns`` of modules, and which modules are ``gone``.
        """
        model = self.build()
        surgery.narrow(model, part("rows", artifact), part("columns", artifact))
        surgery.drop(model, part("gone", artifact))
        model.load_state_dict(part("state", artifact))
        return model


@dataclass(frozen=True)
class Sites:
    """What of a network is pruned: its layers but the skipped ones, cut into cells by the
    granularity.
    """

    skip: list[str]
    granularity: partial

    def layers(self, network: Network) -> dict[str, Layer]:
        """The prunable layers of the network."""
        return prunable_layers(network.layers, self.skip)

    def ledger(self, network: Network) -> Ledger:
        """What everything in the network counts."""
        model = network.recorded.model
        return Ledger(dict(model.named_parameters()), weight_counts(model), network.layers)

    def cells(self, network: Network) -> dict[str, Cells]:
        """The cells of the network, site by site."""
        return self.granularity(network.recorded, self.layers(network))


def stream(seed: int, name: str, round: int = 1) -> list[int]:
    """Seed of a stage's own random stream, from the experiment's seed, the stage's name and, from
    the second on, the round.
    """
    own = [seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")]
    return own if round == 1 else [*own, round]


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    """Tensors with ``prefix/`` before their names."""
    return {f"{prefix}/{name}": t for name, t in tensors.items()}


def part(prefix: str, artifact: Artifact) -> Tensors:
    """The tensors of an artifact below a prefix, without it."""
    return {
        name.removeprefix(f"{prefix}/"): t
        for name, t in artifact.tensors.items()
        if name.startswith(f"{prefix}/")
    }
