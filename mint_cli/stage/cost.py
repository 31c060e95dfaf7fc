"""What a network costs before and after: its size, its operations, its memory and its time."""

from __future__ import annotations

import torch

from mint_cli import packed
from mint_cli.network import cost as co
from mint_cli.stage.common import Network, Result, part
from mint_cli.store import Artifact, Context

BATCHES = (1, 128)
REPEATS = 9  # of every network
ENOUGH = 10.0  # seconds, for one size of a batch


def cost(
    network: Network,
    dense: Artifact,
    retrained: Artifact,
    shrunken: Artifact | None,
    context: Context,
) -> Result:
    """Cost of the dense network, of the masked one that was retrained last, and of the smaller one.

    Parameters, multiply-accumulates and peak bytes of activations are those of one image; ``bytes``
    are those of a packed file's tensors; ``latency`` is in milliseconds by images in a batch,
    measured in turn, with the number of ``threads`` and the ``device`` beside it.
    """
    artifacts = {"dense": dense, "retrained": retrained, "shrunken": shrunken}
    artifacts = {name: one for name, one in artifacts.items() if one is not None}
    models = {
        name: network.rebuild(one).to(context.device, memory_format=torch.channels_last)
        for name, one in artifacts.items()
    }
    found = {
        name: {
            "parameters": co.parameters(model),
            "macs": co.macs(model, network.pixels),
            "bytes": size(artifacts[name]),
            "activations": co.peak_activations(model, network.pixels),
            "latency": {},
        }
        for name, model in models.items()
    }
    for batch in BATCHES:
        measured = co.latency(models, network.pixels, batch, REPEATS, ENOUGH)
        for name, times in measured.items():
            found[name]["latency"][f"batch_{batch}"] = times
    return {}, {**found, "threads": torch.get_num_threads(), "device": device(context.device)}


def size(artifact: Artifact) -> int:
    """Bytes of the network in a packed file, apart from how to build it."""
    parts = (part(name, artifact) for name in ("state", "rows", "columns", "gone"))
    return len(packed.pack({}, *parts))


def device(given: torch.device) -> str:
    """The kind of device: the name of a GPU, or what instructions a CPU has."""
    if given.type == "cuda":
        return torch.cuda.get_device_name(given)
    return f"{given.type} ({torch.backends.cpu.get_cpu_capability()})"
