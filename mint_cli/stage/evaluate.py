"""What a network is worth."""

from __future__ import annotations

import math

import torch

from mint_cli.data import images as im
from mint_cli.errors import DataError
from mint_cli.stage.common import Network, Result
from mint_cli.store import Artifact, Context
from mint_cli.training.loop import predict


def evaluate(network: Network, taken: Artifact, context: Context) -> Result:
    """Accuracy and loss on test and on validation (null without images), and the class that each
    image was given.
    """
    model = network.rebuild(taken).to(context.device, memory_format=torch.channels_last)
    tensors, metrics = {}, {}
    for name in ("test", "validation"):
        images = im.to(getattr(network.data.splits, name), context.device)
        metrics[name] = None
        if len(images):
            predicted, loss = predict(model, images)
            if not math.isfinite(loss):
                raise DataError(
                    f"the loss on the {name} images is {loss}: the network's weights or "
                    "outputs have overflowed"
                )
            right = (predicted == images.labels.cpu()).double().mean()
            metrics[name] = {"accuracy": float(right), "loss": loss}
            tensors[f"predicted/{name}"] = predicted.to(torch.int32)
    return tensors, metrics
