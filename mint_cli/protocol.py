"""The plug-in shapes and the few values that travel between them, on one screen.

Left of ``/`` stands what the pipeline passes, right of ``*`` the settings, which come from YAML and
have no Python defaults.  A plug-in is a function and a YAML.

| family       | signature                                                                        |
|--------------|----------------------------------------------------------------------------------|
| dataset      | ``(root: Path, /, *, seed, …) -> Splits``                                        |
| model        | ``(shape, classes, /, *, …) -> nn.Module``                                       |
| granularity  | ``(network, layers, /, *, …) -> dict[site, Cells]``; layers: by name |
| criterion    | ``(model, cells, images, rng, /, *, …) -> dict[site, Estimate]``                 |
| estimator    | ``(child, parent, child_groups, parent_groups, rng, /, *, …) -> Estimate``       |
| allocation   | ``(scores, sizes, wanted, /, *, …) -> Kept``; sizes: weights of every cell       |
| compensation | ``(model, cells, kept, gone, images, rng, /, *, …) -> (Kept, Tensors)``          |
| schedule     | ``(sparsity, /, *, …) -> list[float]``: the sparsity asked for after every round |

A data set may name settings that change no result, as where pixels are kept, in ``indifferent``.
``cells`` is ``dict[site, Cells]``.  A plug-in may carry ``check``, a function with the same
settings that raises ``SettingError`` before any work: of a criterion or compensation
``check(layers, cells, labels, /, *, …)``, of an estimator ``check(rows, /, *, …)``; it is attached
by ``checked_by``. An estimator's samples lie on the network's device, group labels and the estimate
on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

Tensors = dict[str, Tensor]
Masks = dict[
    str, Tensor
]  # parameter -> bool, True = stays; its axes are leading axes of the parameter
Kept = dict[str, Tensor]  # site -> bool of the site's shape, True = stays


@dataclass(frozen=True)
class Images:
    """Labelled images: ``pixels`` uint8 (n, c, h, w), ``labels`` int64 (n,); and the training
    transform.

    Pixels may lie in files (``data.stored.Stored``); ``data.images`` gives batches of either.
    """

    pixels: Tensor
    labels: Tensor
    padding: int = 0  # random crops from a black border of so many pixels
    flip: bool = False  # random left-right flips

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Splits:
    """Train, validation (held out of train; may be empty) and test images, and how pixels in [0, 1]
    are normalised.
    """

    train: Images
    validation: Images
    test: Images
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Layer:
    """What one recorded pass of a network says of a convolution or linear layer."""

    name: str
    kind: str  # the class of the module
    shape: tuple[int, ...]  # of its weight
    positions: int  # of its output: pixels of the feature map, or tokens; 0 if it was never called
    calls: int  # in one forward pass
    refusals: tuple[str, ...] = ()  # why its weight cannot be masked, in words
    blind: tuple[str, ...] = ()  # why nothing can be judged by what enters and leaves it, in words

    @property
    def weight(self) -> str:
        """Name of its weight among the network's parameters."""
        return f"{self.name}.weight" if self.name else "weight"

    @property
    def kernel(self) -> int:
        """Weights between an input channel and an output channel."""
        size = 1
        for axis in self.shape[2:]:
            size *= axis
        return size


@dataclass(frozen=True)
class Cells:
    """The cells of one site: what goes or stays as a whole.

    ``labels`` says of every leading element of each parameter which cell it belongs to, int32, an
    index into the flattened ``shape``, −1 none.  Sizes, masks and surgery all follow from it.
    ``reads`` labels in the same way columns of layers and entries of norms that read what the cells
    make, where an element may belong to another cell as well: they go with it and count nothing.
    """

    shape: tuple[int, ...]
    labels: Tensors
    reads: Tensors = field(default_factory=dict)
    names: tuple[str, ...] = ()  # of the cells, where they have any
    fixed: dict[str, str] = field(default_factory=dict)  # what cannot go as a cell, and why


@dataclass(frozen=True)
class Estimate:
    """A score, larger = keep, and two estimates from disjoint halves of the splits or samples
    (None: no randomness).

    All have the shape of the site's cells; an estimator's have (child groups, parent groups).
    ``additive`` says that a score is a loss a weight, which adds up over weights, cells and sites:
    then a budget in another unit ranks cells by their loss a unit of it.
    """

    score: Tensor
    halves: tuple[Tensor, Tensor] | None = None
    additive: bool = False


def checked_by(check: Callable[..., None]) -> Callable[[Callable], Callable]:
    """Decorator: ``check`` takes the plug-in's settings and raises SettingError before any work."""

    def attach(plugin: Callable) -> Callable:
        plugin.check = check
        return plugin

    return attach
