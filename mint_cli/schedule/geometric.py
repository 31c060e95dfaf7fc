"""The same fraction of what is left goes in every round (Frankle & Carbin 2019, arXiv
1803.03635).
"""

from __future__ import annotations

from mint_cli.schedule.rounds import each, numbered


def geometric(sparsity: float | None, /, *, count: int) -> list[float]:
    """Sparsities s_i = 1 − (1 − s)^(i / count), the last exactly s."""
    final = each(sparsity, count)
    return numbered(count, final, lambda done: 1 - (1 - final) ** done)
