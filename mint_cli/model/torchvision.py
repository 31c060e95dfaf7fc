"""Any classification network of torchvision, by its name."""

from __future__ import annotations

import inspect

import torch
from torch import nn

from mint_cli.errors import DataError, SettingError
from mint_cli.signatures import nearest


def torchvision(shape: tuple[int, ...], classes: int, /, *, name: str) -> nn.Module:
    """The network with random weights and a classifier for so many classes; its weights come from
    ``checkpoint``.

    Training outputs of auxiliary classifiers are left out.  Raises SettingError for a name that
    torchvision does not have, DataError for images that the network does not take.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise SettingError(
            "name", "must be a classification network of torchvision", name, nearest(name, known)
        )
    builder = models.get_model_builder(name)
    settings = {"num_classes": classes, "weights": None}
    if "init_weights" in inspect.signature(builder).parameters or name in (
        "googlenet",
        "inception_v3",
    ):
        settings |= {"init_weights": True, "aux_logits": False}
    model = builder(**settings)
    try:
        with torch.no_grad():
            logits = model.eval()(torch.zeros(2, *shape))
    except (RuntimeError, ValueError) as error:
        raise DataError(
            f"torchvision's {name} does not take images of {shape}: {str(error).splitlines()[0]}"
        ) from error
    if logits.shape != (2, classes):
        raise DataError(
            f"torchvision's {name} gives {tuple(logits.shape)} for 2 images and {classes} classes"
        )
    return model.train()
