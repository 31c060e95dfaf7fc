"""What the schedules of several rounds share."""

from __future__ import annotations

from collections.abc import Callable

from mint_cli.errors import SettingError

MOST = 1000  # rounds; each is a score, a prune and a retraining


def each(sparsity: float | None, count: int) -> float:
    """The final sparsity; SettingError without one, or for a number of rounds out of bounds."""
    if not 1 <= count <= MOST:
        raise SettingError("count", f"must lie between 1 and {MOST}", count)
    if sparsity is None:
        raise SettingError("count", "above 1 needs a sparsity to go to", count)
    return sparsity


def numbered(count: int, final: float, at: Callable[[float], float]) -> list[float]:
    """``at`` of every round's share of all rounds; the last is ``final`` without rounding."""
    return [at(i / count) for i in range(1, count)] + [final]
