"""How much is to go, in the unit that the user thinks in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from mint_cli.errors import SettingError, Unreachable, owned
from mint_cli.network import cells as ce
from mint_cli.network import cost
from mint_cli.protocol import Cells, Kept, Layer, Tensors

UNITS = ("prunable", "all", "cells", "parameters", "macs")


@dataclass(frozen=True)
class Ledger:
    """What everything in a network counts."""

    parameters: dict[str, Tensor]
    weights: dict[str, int]  # of convolution and linear weights, by parameter
    layers: dict[str, Layer]  # all of them

    def each(self, cells: dict[str, Cells], of: str) -> Tensors:
        """What every cell counts by itself, int64, the cells' shapes."""
        if of == "cells":
            return {site: torch.ones(own.shape, dtype=torch.int64) for site, own in cells.items()}
        if of == "macs":
            known = (self.layers, self.parameters)
            return {site: cost.cell_macs(*known, own) for site, own in cells.items()}
        counted = self.parameters if of == "parameters" else self.weights
        return {site: ce.sizes(own, self.parameters, counted) for site, own in cells.items()}

    def removed(self, cells: dict[str, Cells], kept: Kept, of: str) -> int:
        """What has gone of a network of which these cells are kept; what belongs to two cells
        counts once.
        """
        if of == "cells" or not any(ce.is_coupled(own) for own in cells.values()):
            each = self.each(cells, of)
            return sum(int(each[site][~kept[site]].sum()) for site in cells)
        before = {name: p.numel() for name, p in self.parameters.items()}
        after = cost.remaining(self.parameters, cells, kept)
        if of == "macs":
            return cost.layer_macs(self.layers, before) - cost.layer_macs(self.layers, after)
        return sum(before[n] - after[n] for n in (before if of == "parameters" else self.weights))

    def whole(self, cells: dict[str, Cells], of: str) -> int:
        """What a share is of."""
        if of == "cells":
            return sum(own.numel() for own in self.each(cells, of).values())
        if of == "macs":
            return cost.layer_macs(
                self.layers, {name: p.numel() for name, p in self.parameters.items()}
            )
        names = {name for own in cells.values() for name in own.labels} & self.weights.keys()
        counted = {"prunable": names, "all": self.weights, "parameters": self.parameters}[of]
        return sum(self.parameters[name].numel() for name in counted)


@dataclass(frozen=True)
class Budget:
    """How much is to go: a share, or None where the allocation decides, and of what."""

    sparsity: float | None
    of: str  # weights (of prunable layers, of all), cells, parameters or multiply-accumulates

    def __post_init__(self) -> None:
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise SettingError("sparsity", "must lie in [0, 1)", self.sparsity)
        if self.of not in UNITS:
            raise SettingError("of", f"must be one of {', '.join(UNITS)}", self.of)

    def by_unit(self, scores: Tensors, cells: dict[str, Cells], ledger: Ledger) -> Tensors:
        """Losses a weight as losses a unit of what the budget counts."""
        weights, units = ledger.each(cells, "all"), ledger.each(cells, self.of)
        return {site: own * weights[site] / units[site] for site, own in scores.items()}

    def allocate(
        self, allocation: partial, scores: Tensors, cells: dict[str, Cells], ledger: Ledger
    ) -> Kept:
        """The allocation's choice; SettingError with the largest sparsity that it can reach.

        Parts of one layer add up, and never more goes than was asked.  Whole channels share weights
        with others: there the smallest choice is searched that leaves no more than was asked.
        """
        coupled = any(ce.is_coupled(own) for own in cells.values())
        if self.of in ("parameters", "macs") and not coupled:
            raise SettingError(
                "of", "must be prunable, all or cells where no whole channel goes", self.of
            )
        search = Search(allocation, scores, cells, ledger, self.of)
        if self.sparsity is None:
            return search.at(None)
        whole = ledger.whole(cells, self.of)
        wanted = round(self.sparsity * whole)
        if coupled and self.of != "cells":
            kept, most = search.least(wanted)
        else:
            kept, most = search.exact(wanted)
        if kept is None:
            words = {"prunable": "the prunable weights", "all": "all weights"}
            what, share = words.get(self.of, f"the {self.of}"), int(most / whole * 1e4) / 1e4
            bound = f"can be at most {share:.4f} of {what} with these layers and caps"
            raise SettingError("sparsity", bound, self.sparsity)
        return kept


@dataclass(frozen=True)
class Search:
    """The choices of an allocation for all amounts."""

    allocation: partial
    scores: Tensors
    cells: dict[str, Cells]
    ledger: Ledger
    of: str

    @cached_property
    def sizes(self) -> Tensors:
        return self.ledger.each(self.cells, self.of)

    def at(self, amount: int | None) -> Kept:
        """The choice for one amount."""
        with owned("allocation"):
            return self.allocation(self.scores, self.sizes, amount)

    def exact(self, wanted: int) -> tuple[Kept | None, int]:
        """The choice for an amount that adds up, or None and the most that can go."""
        try:
            return self.at(wanted), wanted
        except Unreachable as error:
            return None, error.most

    def least(self, wanted: int) -> tuple[Kept | None, int]:
        """The smallest choice that takes ``wanted`` out of the network, or None and the most that
        can go.
        """
        low, high = 0, sum(int(own.sum()) for own in self.sizes.values())
        kept, high = self.largest(high)
        most = self.removed(kept)
        if most < wanted:
            return None, most
        while low < high:  # smallest amount whose choice is enough
            middle = (low + high) // 2
            found = self.at(middle)
            if self.removed(found) >= wanted:
                kept, high = found, middle
            else:
                low = middle + 1
        return kept, most

    def largest(self, amount: int) -> tuple[Kept, int]:
        """The choice for the largest amount that is reachable, and this amount."""
        try:
            return self.at(amount), amount
        except Unreachable as error:
            return self.largest(min(error.most, amount - 1))

    def removed(self, kept: Kept) -> int:
        return self.ledger.removed(self.cells, kept, self.of)
