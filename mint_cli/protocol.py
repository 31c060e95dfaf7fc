"""The plug-in shapes and the few values that travel between them, on one screen.

Left of ``/`` stands what the pipeline passes, right of ``*`` the settings, which come from YAML and have no Python
defaults.  A plug-in is a function and a YAML; ``layers`` names the prunable layers in order.

| family       | signature                                                                          |
|--------------|------------------------------------------------------------------------------------|
| dataset      | ``(root: Path, /, *, seed, ...) -> Splits``                                        |
| model        | ``(shape, classes, /, *, ...) -> nn.Module``                                       |
| criterion    | ``(model, layers, images, rng, /, *, ...) -> dict[layer, Estimate]``               |
| estimator    | ``(child, parent, child_groups, parent_groups, rng, /, *, ...) -> Estimate``       |
| allocation   | ``(scores, weights, /, *, ...) -> Masks``; ``weights`` counts those of every layer |
| compensation | ``(model, masks, images, rng, /, *, ...) -> (Masks, Tensors)``                     |

The module of a criterion or compensation may also define ``check(shapes, labels, /, *, ...)`` with the same settings,
``shapes`` as below and ``labels`` those of the training images; that of an estimator ``check(rows, /, *, ...)``,
``rows`` the number of samples it will see.  It raises ``SettingError`` before any stage runs.  An estimator's samples lie
on the network's device, group labels and the estimate on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

Tensors = dict[str, Tensor]
Shapes = dict[str, tuple[int, int, int, int]]  # layer -> output channels, input channels, weights between two, positions of its output
Masks = dict[str, Tensor]  # layer -> bool, True = keep; its axes are the leading axes of the layer's weight


class SettingError(ValueError):
    """A setting outside its bounds; the message is one sentence that names the setting, the bound and the value."""


class DataError(RuntimeError):
    """Data that cannot be used (missing, damaged, NaN); the message says what and where."""


@dataclass(frozen=True)
class Images:
    """Labelled pixels in memory: ``pixels`` uint8 (n, c, h, w), ``labels`` int64 (n,); and the training transform."""

    pixels: Tensor
    labels: Tensor
    padding: int = 0  # random crops from a black border of so many pixels
    flip: bool = False  # random left-right flips

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Splits:
    """Train, validation (held out of train; may be empty) and test images, and how pixels in [0, 1] are normalised."""

    train: Images
    validation: Images
    test: Images
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Estimate:
    """A score, larger = keep, and two estimates from disjoint halves of the splits or samples (None: no randomness).

    With groups (int64 labels of a layer's output and input channels) the score is one value per block of
    connections, (child groups, parent groups); without, its axes are the leading axes of the layer's weight.
    """

    score: Tensor
    halves: tuple[Tensor, Tensor] | None = None
    child_groups: Tensor | None = None
    parent_groups: Tensor | None = None
