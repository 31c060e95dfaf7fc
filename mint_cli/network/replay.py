"""Forward passes that go on where the last one over the same images ended, instead of starting at
the pixels again.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from mint_cli.network.layers import hooked_before, inference
from mint_cli.network.observe import Passage, passage

BUDGET = 2**31  # bytes that one network's cut may take; above, passes go on from an earlier cut
READS = {  # functions whose result leaves the tensors, or has a shape, by the numbers in them
    *("item", "tolist", "bool", "float", "int", "complex", "index", "numpy", "equal", "allclose"),
    *(
        "is_nonzero",
        "nonzero",
        "argwhere",
        "masked_select",
        "unique",
        "unique_consecutive",
        "bincount",
    ),
}


def tensors_in(tree: Any) -> list[Tensor]:
    """The tensors of nested tuples, lists and mappings."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def without_numbers(tree: Any) -> Any:
    """The same tree with tensors that have a shape and no content (device meta)."""
    return tree_map(
        lambda x: torch.empty_like(x, device="meta") if isinstance(x, Tensor) else x, tree
    )


@dataclass
class Tape(TorchFunctionMode):
    """One forward pass as a sequence of calls: what each returned (tensors without their numbers),
    and who used it last.
    """

    results: list[Any] = field(default_factory=list)
    last_use: dict[int, int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)  # a layer's first call
    in_place: bool = False  # some call changes what another returned
    reads: bool = False  # some number leaves the tensors, and may be another one for other images
    _made: dict[int, tuple[list[int], Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, function, types, arguments=(), settings=None):
        given = tensors_in((arguments, settings))
        versions = [x._version for x in given]
        result, call = function(*arguments, **(settings or {})), len(self.results)
        self.in_place |= versions != [x._version for x in given]
        name = getattr(function, "__name__", "").strip("_")
        self.reads |= name in READS or (name, len(given)) == ("where", 1)
        self.reads |= name == "getitem" and any(x.dtype == torch.bool for x in given[1:])
        for x in given:
            for maker in self._made.get(id(x), ([], x))[0]:
                self.last_use[maker] = call
        for x in tensors_in(result):  # held, so that no other tensor gets its id
            self._made.setdefault(id(x), ([], x))[0].append(call)
        self.results.append(without_numbers(result))
        return result

    def needed(self, cut: int) -> list[int]:
        """The calls before ``cut`` whose results are used from there on."""
        return [call for call, last in self.last_use.items() if call < cut <= last]


def tape(model: nn.Module, layers: list[str], x: Tensor) -> Tape:
    """Record one pass over ``x``, and at which call each of ``layers`` begins."""
    recorded = Tape()

    def begin(name: str) -> None:
        recorded.calls.setdefault(name, len(recorded.results))

    with inference(model), hooked_before(model, layers, begin), recorded:
        model(x)
    recorded._made.clear()
    return recorded


class Cut:
    """What is left of one pass over one batch where it was cut: the first call to run again, and
    the results needed there.
    """

    def __init__(self) -> None:
        self.start, self.saved = 0, {}


class Replay(TorchFunctionMode):
    """Within it a network's pass returns what ``cut`` has saved until there, and is cut anew where
    ``layer`` begins.

    Nothing before the cut is computed, so the layers before must not have changed since.  A tensor
    that is needed but was not saved has no numbers (device meta), and the first call that runs on
    it fails. With ``still`` the layer will not change either, and the cut comes after it;
    ``output`` is what the layer gives instead of being computed.
    """

    def __init__(
        self,
        recorded: Tape,
        cut: Cut,
        layer: str,
        batches: int,
        still: bool = False,
        output: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.tape, self.cut, self.call = recorded, cut, 0
        self.at, self.output = recorded.calls[layer], output
        self.next = self.at + still
        if self.next < cut.start:  # layers in another order than they run in
            cut.start, cut.saved = 0, {}
        needed = recorded.needed(self.next)
        size = (
            sum(x.nbytes for call in needed for x in tensors_in(recorded.results[call])) * batches
        )
        further = self.next > cut.start and size <= BUDGET and not recorded.reads
        self.keep = set(needed) if further else None
        self.fresh: dict[int, Any] = {}
        self.given: dict[int, Any] = {}

    def __torch_function__(self, function, types, arguments=(), settings=None):
        call, self.call = self.call, self.call + 1
        if call == self.next:
            self.fresh = self.own(self.fresh)
        if call == self.at and self.output is not None:
            result = self.output
        elif call >= self.cut.start:
            result = function(*arguments, **(settings or {}))
        elif call in self.given:
            result = self.given[call]
        else:
            result = self.tape.results[call]
        if self.keep is not None and call in self.keep:
            self.fresh[call] = result
        return result

    def own(self, results: dict[int, Any]) -> dict[int, Any]:
        """The results, where something works in place with memory of their own, shared as it was
        among them.
        """
        return deepcopy(results) if self.tape.in_place else results

    def __enter__(self):
        self.call, self.fresh, self.given = (
            0,
            {},
            self.own(self.cut.saved),
        )  # a passage may run twice
        return super().__enter__()

    def __exit__(self, *exception) -> None:
        super().__exit__(*exception)
        if self.keep is not None and len(self.fresh) == len(self.keep):
            self.cut.start, self.cut.saved = self.next, self.fresh
            self.keep = None


class Walk:
    """Passages of one network over the same batches, layer after layer; what is computed once is
    not computed again.

    Memory: the tensors at the cut, at most 2 GiB for all batches.  A ``still`` network never
    changes: none of its layers runs twice.
    """

    def __init__(self, model: nn.Module, layers: list[str], still: bool = False) -> None:
        self.model, self.layers, self.still = model, layers, still
        self._tapes: dict[torch.Size, Tape] = {}
        self._cuts: dict[int, Cut] = {}

    def passage(
        self, layer: str, number: int, batches: int, x: Tensor, output: Tensor | None = None
    ) -> Passage:
        """The layer's passage of batch ``number`` of so many; layers that passages of this batch
        left behind must not change.

        With ``output`` the layer is not computed: this is what leaves it.
        """
        return passage(self.model, layer, x, self._resumed(layer, number, batches, x, output))

    def logits(self, layer: str, number: int, batches: int, x: Tensor, output: Tensor) -> Tensor:
        """What batch ``number`` of so many comes to where the layer gives ``output``."""
        with self._resumed(layer, number, batches, x, output):
            return self.model(x)

    def taped(self, x: Tensor) -> Tape:
        """The calls of a pass over images of that shape."""
        if x.shape not in self._tapes:
            self._tapes[x.shape] = tape(self.model, self.layers, x)
        return self._tapes[x.shape]

    def _resumed(
        self, layer: str, number: int, batches: int, x: Tensor, output: Tensor | None
    ) -> Replay:
        cut = self._cuts.setdefault(number, Cut())
        return Replay(self.taped(x), cut, layer, batches, self.still, output)
