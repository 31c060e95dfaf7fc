"""Paired samples of child and parent channels, checked once and laid out group after group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mint_cli.errors import DataError, SettingError
from mint_cli.protocol import Estimate


@dataclass(frozen=True)
class Side:
    """Channels of one side: ``values`` float64 (n, channels), group g owning columns ``starts[g]``
    up to ``starts[g + 1]``.
    """

    values: Tensor
    starts: Tensor  # int64 (groups + 1,)
    live: Tensor  # bool (channels,): False where a channel is constant

    def __len__(self) -> int:
        return len(self.starts) - 1

    def slices(self) -> list[slice]:
        """The columns of every group."""
        ends = self.starts.tolist()
        return [slice(*pair) for pair in zip(ends[:-1], ends[1:], strict=True)]

    def live_counts(self) -> Tensor:
        """Channels that are not constant, per group: float64 (groups,)."""
        return torch.stack([self.live[own].sum() for own in self.slices()]).double()

    def rows(self, index: Tensor) -> Side:
        """The same side on some of its rows."""
        return laid_out(self.values[index], self.starts)


def laid_out(values: Tensor, starts: Tensor) -> Side:
    """A side from columns that already stand group after group."""
    return Side(values, starts, (values != values[:1]).any(0))


def side(values: Tensor, groups: Tensor, name: str) -> Side:
    """Lay one side out group after group; raise DataError for an empty group, NaN or infinity,
    naming side and group.
    """
    if values.ndim != 2 or len(groups) != values.shape[1]:
        raise DataError(
            f"{name} needs rows × channels and one group per channel, not "
            f"{tuple(values.shape)} and {len(groups)} groups"
        )
    counts = torch.bincount(groups.cpu())
    if len(counts) == 0 or (counts == 0).any():
        raise DataError(
            f"{name} group {int((counts == 0).int().argmax()) if len(counts) else 0} has no "
            "channels"
        )
    broken = ~torch.isfinite(values).all(0)
    if broken.any():
        raise DataError(
            f"{name} group {int(groups[broken.cpu()].min())} holds NaN or infinite activations"
        )
    order = torch.argsort(groups.cpu(), stable=True)
    return laid_out(
        values.cpu()[:, order].double(), torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    )


def check_rows(rows: int, least: int) -> None:
    """SettingError for fewer rows than an estimator needs."""
    if rows < least:
        raise SettingError(
            "samples", f"must be at least {least} (samples per class × classes)", rows
        )


def sides(
    child: Tensor, parent: Tensor, child_groups: Tensor, parent_groups: Tensor
) -> tuple[Side, Side]:
    """Both sides of a layer; raise DataError where rows are unequal in number."""
    if len(child) != len(parent):
        raise DataError(
            f"child and parent must be the same samples, not {len(child)} and {len(parent)} rows"
        )
    return side(child, child_groups, "child"), side(parent, parent_groups, "parent")


def standardised(it: Side) -> Side:
    """Mean 0 and variance 1 for every channel; a constant channel becomes exactly 0."""
    # Numpy over contiguous rows: a channel's result must not depend on the channels beside it.
    columns = it.values.T.contiguous().numpy()
    centred = columns - columns.mean(1, keepdims=True)
    spread = np.sqrt(np.square(centred).mean(1, keepdims=True))
    scaled = np.divide(
        centred, spread, out=np.zeros_like(centred), where=it.live.numpy()[:, None] & (spread > 0)
    )
    return replace(it, values=torch.from_numpy(scaled.T.copy()))


def silence_dead(score: Tensor, child: Side, parent: Side) -> Tensor:
    """Set the score of a pair with a constant child or parent group to exactly 0: a constant
    carries no information.
    """
    live = (child.live_counts() > 0)[:, None] & (parent.live_counts() > 0)[None, :]
    return torch.where(live, score, 0.0)


def from_splits(scores: list[Tensor]) -> Estimate:
    """Average estimates of random splits; the halves average disjoint splits (None where there is
    one split).
    """
    both = torch.stack(scores)
    middle = len(scores) // 2
    return Estimate(
        both.mean(0), (both[:middle].mean(0), both[middle:].mean(0)) if middle else None
    )


def from_samples(
    estimate: Callable[[Side, Side], Tensor], child: Side, parent: Side, rng: np.random.Generator
) -> Estimate:
    """Estimate from all rows; the halves see disjoint random halves of them."""
    order = torch.from_numpy(rng.permutation(len(child.values)))
    halves = order.chunk(2)
    first, second = (estimate(child.rows(half), parent.rows(half)) for half in halves)
    return Estimate(estimate(child, parent), (first, second))
