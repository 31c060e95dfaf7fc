"""Information between the feature maps of a unit, or a channel, and the class of the image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli.data import images as im
from mint_cli.errors import SettingError, owned
from mint_cli.network import units as un
from mint_cli.network.cells import is_coupled, is_unit, readers
from mint_cli.network.layers import device_of, hooked, inference
from mint_cli.network.observe import outputs_of
from mint_cli.protocol import Cells, Estimate, Images, Layer, checked_by
from mint_cli.solver.units import of_cells

FEATURES = ("pooled", "projected")
MAPS = ("branch", "joined")
LEAST = 4  # samples of a class: two in each half


def check(
    layers: dict[str, Layer],
    cells: dict[str, Cells],
    labels: Tensor,
    /,
    *,
    samples_per_class: int,
    batch_size: int,
    maps: str,
    features: str,
    dimensions: int,
    estimator: partial,
) -> None:
    """Samples within the classes, known features, whole channels or units, an estimator against
    classes.
    """
    im.check_per_class(labels, samples_per_class)
    if samples_per_class < LEAST:
        raise SettingError("samples_per_class", f"must be at least {LEAST}", samples_per_class)
    for name, known, value in (("maps", MAPS, maps), ("features", FEATURES, features)):
        if value not in known:
            raise SettingError(name, f"must be one of {', '.join(known)}", value)
    if dimensions < 1:
        raise SettingError("dimensions", "must be at least 1", dimensions)
    if not all(is_coupled(own) for own in cells.values()):
        raise SettingError(
            "granularity", "must be units or filters: feature maps are of whole channels"
        )
    if not getattr(estimator.func, "of_classes", False):
        known = "mixture, energy_distance or fisher_information"
        bound = f"must measure information with the class ({known})"
        raise SettingError("estimator", bound, estimator.func.__name__)
    with owned("estimator"):
        own = getattr(estimator.func, "check", None)
        if own:
            own(samples_per_class * len(labels.unique()), **estimator.keywords)


@checked_by(check)
def label_information(
    model: nn.Module,
    cells: dict[str, Cells],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    samples_per_class: int,
    batch_size: int,
    maps: str,
    features: str,
    dimensions: int,
    estimator: partial,
) -> dict[str, Estimate]:
    """The estimator on feature maps of images drawn per class, and on their classes.

    Of a unit ``maps`` are its own (``branch``), or what it and the shortcut make (``joined``); of a
    channel what its first reader reads.  ``features`` are every map's mean over space (``pooled``),
    or ``dimensions`` random projections of all maps of a unit, or of a channel's map
    (``projected``).
    """
    index = im.per_class(images, samples_per_class, rng)
    classes = images.labels[index.to(images.labels.device)].double().cpu()[:, None]
    feature = pooled if features == "pooled" else Projections(dimensions, rng)
    in_units = all(is_unit(own) for own in cells.values())
    see = of_units(model, cells, images, maps) if in_units else of_channels(model, cells)
    parts: dict[str, list[list[Tensor]]] = {site: [] for site in cells}
    with inference(model):
        for chunk in index.split(batch_size):
            x = im.plain(images, chunk).to(device_of(model))
            for site, own in see(x, feature).items():
                parts[site].append(own)
    estimates = {}
    for site, own in cells.items():
        columns = [torch.cat(part) for part in zip(*parts[site], strict=True)]
        groups = torch.arange(len(columns)).repeat_interleave(
            torch.tensor([c.shape[1] for c in columns])
        )
        one = torch.zeros(1, dtype=torch.int64)
        found = estimator(torch.cat(columns, 1), classes, groups, one, rng)
        halves = found.halves and tuple(half.view(own.shape) for half in found.halves)
        estimates[site] = Estimate(found.score.view(own.shape), halves)
    return estimates


Feature = Callable[[str, Tensor], Tensor]  # name, maps (n, channels, positions) -> (n, features)
See = Callable[[Tensor, Feature], dict[str, list[Tensor]]]  # features of every cell of every site


def pooled(name: str, maps: Tensor) -> Tensor:
    """Means over positions, float32 (n, channels)."""
    return maps.float().mean(2).cpu()


class Projections:
    """Random projections of whole maps, the same for all images: float32 (n, dimensions)."""

    def __init__(self, dimensions: int, rng: np.random.Generator) -> None:
        self.dimensions, self.rng, self.drawn = dimensions, rng, {}

    def __call__(self, name: str, maps: Tensor) -> Tensor:
        flat = maps.float().flatten(1)
        if name not in self.drawn:
            drawn = self.rng.standard_normal((flat.shape[1], self.dimensions), dtype=np.float32)
            self.drawn[name] = torch.from_numpy(drawn / flat.shape[1] ** 0.5).to(flat.device)
        return (flat @ self.drawn[name]).cpu()


def of_units(model: nn.Module, cells: dict[str, Cells], images: Images, maps: str) -> See:
    """How features of units are seen."""
    sites = of_cells(model, cells, tuple(images.pixels.shape[1:]))
    every = [unit for own in sites.values() for unit in own]

    def see(x: Tensor, feature: Feature) -> dict[str, list[Tensor]]:
        seen: dict[int, Tensor] = {}

        def note(number: int, output: Tensor, past: list[Tensor]) -> None:
            unit, own = every[number], un.maps(every[number], output)
            if maps == "joined":
                others = [un.maps(unit, other) for other in past]
                own = own + others[0] if unit.kind == un.RESIDUAL else torch.cat([*others, own], 1)
            seen[number] = feature(unit.name, own)

        with un.Joining(every, note):
            model(x)
        numbers = iter(range(len(every)))
        return {site: [seen[next(numbers)] for _ in own] for site, own in sites.items()}

    return see


def of_channels(model: nn.Module, cells: dict[str, Cells]) -> See:
    """How features of coupled channels are seen: where the first layer that reads one does."""
    wanted: dict[str, list[tuple[str, int, Tensor]]] = {}
    for site, own in cells.items():
        for cell in range(own.shape[0]):
            places = ((name, owner == cell) for name, owner in readers(own).items())
            reader, at = next((name, at) for name, at in places if at.any())
            wanted.setdefault(reader, []).append((site, cell, at.nonzero()[:, 0]))

    def see(x: Tensor, feature: Feature) -> dict[str, list[Tensor]]:
        seen: dict[str, dict[int, Tensor]] = {site: {} for site in cells}

        def note(name: str, entering: Tensor, leaving: Tensor) -> None:
            maps = outputs_of(model.get_submodule(name), entering)
            for site, cell, at in wanted[name]:
                seen[site][cell] = feature(f"{site} {cell}", maps[:, at.to(maps.device)])

        with hooked(model, list(wanted), note):
            model(x)
        return {site: [own[cell] for cell in sorted(own)] for site, own in seen.items()}

    return see
