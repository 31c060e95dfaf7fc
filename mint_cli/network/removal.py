"""The loss of every image without one whole channel, for many channels a pass.

A channel that is removed (``prune`` masks all that makes it and all that reads it) is missing where
it is read, and nowhere else.  So a pass starts at the first layer that reads it: what lies before
is computed once for all channels of a site, and that layer's output once but for the channel's
share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from math import prod

import torch
from torch import Tensor, nn

from mint_cli.errors import DataError
from mint_cli.network.cells import all_readers
from mint_cli.network.layers import inference, weighted_layers
from mint_cli.network.observe import Passage, outputs_of
from mint_cli.network.replay import Walk
from mint_cli.protocol import Cells

COPIES = 8  # channels that are removed in one pass, each from a copy of the images


class Removals:
    """The losses of a batch of images without each channel, site after site.

    ``x`` are pixels (n, c, h, w), ``labels`` (n,), ``channels`` how many are removed in one pass,
    each from a copy of the images.  Sites are taken ``in_order``.
    Memory: that of a pass of n · channels rows, and its cut.
    """

    def __init__(
        self,
        model: nn.Module,
        cells: dict[str, Cells],
        x: Tensor,
        labels: Tensor,
        channels: int,
    ) -> None:
        self.model, self.labels, self.channels = model, labels, channels
        self.count, self.rows = len(x), x.repeat(channels, 1, 1, 1)
        self.modules = weighted_layers(model)
        self.readers = {site: all_readers(own) for site, own in cells.items()}
        self.sizes = {site: prod(own.shape) for site, own in cells.items()}
        self.walk = Walk(model, list(self.modules), still=True)
        self.calls = self.walk.taped(self.rows).calls
        self._seen: tuple[str, Passage] | None = None

    def in_order(self) -> list[str]:
        """The sites, those that a pass reads first coming first.

        DataError for a network of which single channels cannot be removed so.
        """
        if self.walk.taped(self.rows).reads:
            raise DataError(
                "single channels cannot be removed from a network whose forward pass reads numbers "
                "out of its tensors: copies of one pass would act on one another"
            )
        sites = sorted(self.readers, key=lambda site: self.calls[self.first(site)])
        for site in sites:
            check_single(self.first(site), self.modules[self.first(site)])
        return sites

    def first(self, site: str) -> str:
        """The layer that reads the site's channels first."""
        return min(self.readers[site], key=self.calls.__getitem__)

    def dense(self) -> tuple[Tensor, Tensor]:
        """Loss of every image and whether it is right, float32 and bool (n,), nothing removed."""
        with inference(self.model):
            found = judged(self.model(self.rows[: self.count]), self.labels)
        return tuple(one.cpu() for one in found)

    def without(
        self, site: str, note: Callable[[int], None] = lambda count: None
    ) -> tuple[Tensor, Tensor]:
        """Losses and right answers without each channel of a site, (channels, n), on the CPU.

        ``note`` is called with the number of channels that are done.  A channel that is 0 on all
        images where it is read costs no pass.
        """
        size, reads = self.sizes[site], self.readers[site]
        losses, right = (one.repeat(size, 1) for one in self.dense())
        with inference(self.model):
            seen = self.seen(self.first(site))
            entering = seen.entering[: self.count]
            alive = torch.ones(size, dtype=torch.bool)
            if len(reads) == 1:
                alive = alive_in(
                    self.modules[self.first(site)], entering, reads[self.first(site)], size
                )
            note(int((~alive).sum()))
            for chosen in alive.nonzero()[:, 0].split(self.channels):
                logits = self.logits(site, entering, seen.leaving, chosen)
                shape = (len(chosen), self.count)
                one, other = judged(logits[: shape[0] * shape[1]], self.labels.repeat(shape[0]))
                losses[chosen], right[chosen] = one.view(shape).cpu(), other.view(shape).cpu()
                note(len(chosen))
        return losses, right

    def seen(self, layer: str) -> Passage:
        """What enters and leaves a layer; sites that it reads first see it once."""
        if self._seen is None or self._seen[0] != layer:
            self._seen = (layer, self.walk.passage(layer, 0, 1, self.rows))
        return self._seen[1]

    def logits(self, site: str, entering: Tensor, leaving: Tensor, chosen: Tensor) -> Tensor:
        """Logits of the copies of the images, each without one of the ``chosen`` channels.

        ``entering`` (n, …) and ``leaving`` (all copies) are the first reader's.
        """
        first, later = self.first(site), dict(self.readers[site])
        owner, module, output = later.pop(first), self.modules[first], leaving.clone()
        for own, cell in zip(output.split(self.count), chosen.tolist(), strict=False):
            own.sub_(share_of(module, entering, columns_of(owner, cell)))
        with missing(self.model, later, chosen, self.count):
            return self.walk.logits(first, 0, 1, self.rows, output)


def check_single(name: str, module: nn.Module) -> None:
    """DataError for a layer that computes its output in more than one call."""
    plain = type(module) in (nn.Conv2d, nn.Linear) and "weight" in module._parameters
    if not plain or getattr(module, "padding_mode", "zeros") != "zeros":
        raise DataError(
            f"the channels that layer {name} reads cannot be removed one by one: it is no plain "
            "convolution or linear layer, or pads with something else than zeros"
        )


def columns_of(owner: Tensor, cell: int) -> Tensor:
    """The inputs that are of a cell, int64."""
    return (owner == cell).nonzero()[:, 0]


def alive_in(module: nn.Module, entering: Tensor, owner: Tensor, size: int) -> Tensor:
    """Which of ``size`` cells have an input other than 0 in what enters a layer, bool."""
    used = outputs_of(module, entering).ne(0).any(2).any(0).cpu()
    found = torch.zeros(size, dtype=torch.bool)
    found[owner[used & (owner >= 0)]] = True
    return found


def judged(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy loss of every row in nats, and whether its class is right."""
    losses = nn.functional.cross_entropy(logits.float(), labels, reduction="none")
    return losses, logits.argmax(1) == labels


def share_of(module: nn.Module, entering: Tensor, columns: Tensor) -> Tensor:
    """What a layer's output holds of some of the channels that enter it; 0 of none."""
    columns = columns.to(entering.device)
    if not len(columns):
        return entering.new_zeros(())
    if isinstance(module, nn.Linear):
        return nn.functional.linear(entering[..., columns], module.weight[:, columns])
    return module._conv_forward(entering[:, columns], module.weight[:, columns], None)


@contextmanager
def missing(
    model: nn.Module, owners: dict[str, Tensor], chosen: Tensor, count: int
) -> Iterator[None]:
    """The named layers read copy after copy of ``count`` images, each without one of ``chosen``."""
    modules = weighted_layers(model)
    with ExitStack() as stack:
        for name, owner in owners.items():
            handle = modules[name].register_forward_pre_hook(without(owner, chosen, count))
            stack.callback(handle.remove)
        yield


def without(owner: Tensor, chosen: Tensor, count: int) -> Callable:
    """A hook that sets the inputs of one chosen cell to 0 in every copy of ``count`` images."""

    def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        with torch._C.DisableTorchFunction():
            entering = arguments[0].clone()
            last = isinstance(module, nn.Linear)
            for own, cell in zip(entering.split(count), chosen.tolist(), strict=False):
                columns = columns_of(owner, cell).to(own.device)
                own.index_fill_(own.ndim - 1 if last else 1, columns, 0.0)
        return (entering, *arguments[1:])

    return hook
