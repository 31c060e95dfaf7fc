"""Of cells with like scores one stays: exact one-dimensional k-means (Soltani et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from mint_cli.allocation.quota import without
from mint_cli.errors import SettingError, Unreachable
from mint_cli.protocol import Kept, Tensors

HEADS = ("first", "best")
MOST = 4096  # cells that are clustered at once: time grows with the cube of their number


def clusters(
    scores: Tensors,
    sizes: Tensors,
    wanted: int | None,
    /,
    *,
    number: int | None,
    head: str,
    together: bool,
) -> Kept:
    """Cut the scores of every site into clusters of least squares, and keep one cell of each, its
    head.

    The head is the ``first`` in the order of the network, or the ``best``, the highest score.
    ``number`` of clusters a site, or None: as few of them go as ``wanted`` allows, the same share
    of every site.  ``together`` clusters the cells of all sites at once.  Cells of score −∞ are
    gone already and stay so.  Raises Unreachable with the most that can go.
    """
    if head not in HEADS:
        raise SettingError("head", f"must be one of {', '.join(HEADS)}", head)
    if together:
        joined = {"": torch.cat([own.flatten() for own in scores.values()])}
        counts = {"": torch.cat([own.flatten() for own in sizes.values()])}
        stay = clusters(joined, counts, wanted, number=number, head=head, together=False)[""]
        parts = stay.split([own.numel() for own in scores.values()])
        return {s: part.view(scores[s].shape) for s, part in zip(scores, parts, strict=True)}
    large = max(scores, key=lambda site: scores[site].numel())
    if scores[large].numel() > MOST:
        where = f"site {large or 'of all cells'} has {scores[large].numel()} cells"
        reason = f"{where}; units and filters have few"
        raise SettingError("number", f"is of clusters of at most {MOST} cells", number, reason)
    choices = {site: heads(score.flatten().double(), head) for site, score in scores.items()}
    if number is not None:
        return {site: kept_of(scores[site], own, number) for site, own in choices.items()}
    if wanted is None:
        raise SettingError("sparsity", "must be a number where clusters.number is null", "null")
    every = {
        s: [int(sizes[s].flatten()[~stay].sum()) for stay in own] for s, own in choices.items()
    }
    most = sum(max(own) for own in every.values())
    if wanted > most:
        raise Unreachable(most)
    share = wanted / sum(int(own.sum()) for own in sizes.values())
    kept = {}
    for site, own in choices.items():
        asked = share * int(sizes[site].sum()) + 1e-9
        fits = [i for i, gone in enumerate(every[site]) if gone <= asked]
        at = max(fits, key=lambda i: every[site][i], default=len(own) - 1)
        kept[site] = own[at].view(scores[site].shape)
    return kept


clusters.decides = lambda number, **settings: number is not None  # how much goes is then an outcome


def kept_of(score: Tensor, choices: list[Tensor], number: int) -> Tensor:
    """The choice of so many clusters, or of as many as cells are left."""
    if not 1 <= number <= score.numel():
        raise SettingError(
            "number", f"must lie between 1 and {score.numel()}, the cells of a site", number
        )
    return choices[min(number, len(choices)) - 1].view(score.shape)


def heads(score: Tensor, head: str) -> list[Tensor]:
    """Which of the flat cells stay, bool, with 1, 2, … clusters; the last is a cluster a cell."""
    left = score.isfinite().nonzero()[:, 0]
    if not len(left):
        return [torch.zeros(len(score), dtype=torch.bool)]
    order = left[score[left].sort(stable=True).indices]
    choices = []
    for bounds in partitions(score[order]):
        parts = [order[a:b] for a, b in zip(bounds, [*bounds[1:], len(order)], strict=True)]
        firsts = [part.min() if head == "first" else part[-1] for part in parts]
        gone = torch.ones(len(score), dtype=torch.bool)
        gone[torch.stack(firsts)] = False
        choices.append(without(score, gone.nonzero()[:, 0]))
    return choices


def partitions(values: Tensor) -> list[list[int]]:
    """Where the clusters of sorted ``values`` (n,) begin, for 1 to n clusters of least squares.

    Clusters of one dimension are runs of sorted values: their best ends follow from those of one
    cluster fewer (Wang & Song 2011).  Time and memory grow with the cube and the square of n.
    """
    n = len(values)
    cost = within(values)
    best, begins = cost[0].clone(), [torch.zeros(n, dtype=torch.int64)]  # best[j]: values 0 … j
    for k in range(1, n):
        before = torch.cat([torch.full((1,), torch.inf), best[:-1]]).to(cost)
        total = before[:, None] + cost  # (begin of the last cluster, its end)
        total[:k] = torch.inf
        found = total.min(0)
        best = found.values
        begins.append(found.indices)
    return [traced(begins, k, n) for k in range(n)]


def traced(begins: list[Tensor], k: int, n: int) -> list[int]:
    """Where k + 1 clusters of n values begin, from the last one back."""
    bounds, end = [], n - 1
    for last in range(k, -1, -1):
        start = int(begins[last][end])
        bounds.append(start)
        end = start - 1
    return bounds[::-1]


def within(values: Tensor) -> Tensor:
    """Sum of squares around their mean of sorted values i … j, float64 (n, n), ∞ where j is before
    i.
    """
    centred = values - values.mean()  # sums of squares are differences of large numbers otherwise
    zero = torch.zeros(1, dtype=torch.float64)
    first, second = (torch.cat([zero, part.cumsum(0)]) for part in (centred, centred.square()))
    n = len(values)
    count = (torch.arange(n)[None, :] - torch.arange(n)[:, None] + 1).double()
    total = first[None, 1:] - first[:-1, None]
    squares = (
        second[None, 1:] - second[:-1, None] - total.square() / count.clamp_min(1)
    ).clamp_min(0)
    return torch.where(count > 0, squares, torch.inf)
