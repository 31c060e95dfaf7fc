"""Much goes early, little late (Zhu & Gupta 2018, arXiv 1710.01878, eq. 1 with no sparsity to begin
with).
"""

from __future__ import annotations

from mint_cli.schedule.rounds import each, numbered


def cubic(sparsity: float | None, /, *, count: int) -> list[float]:
    """Sparsities s_i = s · (1 − (1 − i / count)³), the last exactly s."""
    final = each(sparsity, count)
    return numbered(count, final, lambda done: final * (1 - (1 - done) ** 3))
