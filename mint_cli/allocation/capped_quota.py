"""One global quota with a cap per layer (MINT's constraint γ, enforced exactly)."""

from __future__ import annotations

import torch

from mint_cli.errors import SettingError
from mint_cli.protocol import Masks, Tensors
from mint_cli.allocation.quota import lowest_first, most_cells, quota, without


def capped_quota(scores: Tensors, weights: dict[str, int], /, *, sparsity: float, of: str, cap: float, caps: dict[str, float]) -> Masks:
    """Remove exactly ``sparsity`` of the weights, lowest scores of all layers first, at most ``cap`` of a layer.

    ``caps`` overrides the cap by layer; ``of`` names the denominator (prunable or all weights).  The count is exact
    to within less than the smallest cell that could still go.  Raises SettingError with the largest reachable sparsity
    when the caps forbid it.
    """
    wanted = quota(scores, weights, sparsity, of)
    candidates = {name: lowest_first(s)[: most_cells(name, s.numel(), cap, caps)] for name, s in scores.items()}
    sizes = {name: weights[name] // s.numel() for name, s in scores.items()}
    reachable = sum(len(cells) * sizes[name] for name, cells in candidates.items())
    if wanted > reachable:
        most = reachable / sum(weights[name] for name in (scores if of == "prunable" else weights))
        raise SettingError(f"pruner.sparsity={sparsity} cannot be reached: with these caps at most {most:.4f} of the {of} weights can go")
    return masks_of(scores, candidates, chosen(scores, candidates, sizes, wanted))


def chosen(scores: Tensors, candidates: Tensors, sizes: dict[str, int], wanted: int) -> torch.Tensor:
    """Which of the concatenated candidates go: in order of score while they fit into ``wanted`` weights."""
    values = torch.cat([scores[name].flatten()[cells].double() for name, cells in candidates.items()])
    weight = torch.cat([torch.full((len(cells),), sizes[name]) for name, cells in candidates.items()])
    order = values.sort(stable=True).indices
    gone = torch.zeros(len(values), dtype=torch.bool)
    while len(order := order[weight[order] <= wanted]):  # smaller cells may still fill what the next one is too large for
        fits = weight[order].cumsum(0) <= wanted
        gone[order[fits]] = True
        wanted -= int(weight[order[fits]].sum())
        order = order[~fits]
    return gone


def masks_of(scores: Tensors, candidates: Tensors, gone: torch.Tensor) -> Masks:
    """Split the choice back into layers."""
    parts = gone.split([len(cells) for cells in candidates.values()])
    return {name: without(scores[name], cells[part]) for (name, cells), part in zip(candidates.items(), parts, strict=True)}
