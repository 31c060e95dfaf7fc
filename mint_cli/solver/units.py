"""What the logits lose with a unit when a linear map of what goes past it stands in for its
output.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mint_cli.errors import DataError
from mint_cli.network.layers import device_of, differentiated, frozen
from mint_cli.network.units import Joining, Unit, find, maps
from mint_cli.protocol import Cells
from mint_cli.solver import equations as eq
from mint_cli.solver.equations import factor
from mint_cli.solver.rows import CLIP, Stream, Survey, chosen, metric


def of_cells(
    model: nn.Module, cells: dict[str, Cells], pixels: tuple[int, ...]
) -> dict[str, list[Unit]]:
    """The units that the cells of every site are, found anew in the network."""
    known = {unit.name: unit for unit in find(model, pixels).units}
    return {site: [known[name] for name in own.names] for site, own in cells.items()}


def losses(model: nn.Module, units: list[Unit], source: Stream) -> Tensor:
    """Rise of the felt error with each unit, in logits², float64 (units,).

    Rows are positions of the unit's output t; u is what goes past there.  The linear map W and
    shift b that explain t best from u stand in for it, as what reads both could take them over.
    What they leave unexplained counts by how the logits feel two of its channels at once.  The
    other units stay.
    """
    generator = torch.Generator().manual_seed(source.seed)
    found: list[Sums | None] = [None] * len(units)
    for x in source.batches():
        met = meetings(model, units, x.to(device_of(model)), generator)
        for number, (own, past, slopes) in enumerate(met):
            size = slopes.shape[2]
            if past.shape[2] != size:
                raise DataError(f"unit {units[number].name}: what goes past it has other positions")
            at = torch.rand(len(slopes), size, generator=generator).argsort(1)
            at = at[:, : source.calibration.positions].to(slopes.device)
            if found[number] is None:
                found[number] = Sums(past.shape[1], own.shape[1], own.device)
            found[number].add(own, past, slopes, at, source)
    return torch.stack([sums.left(source) for sums in found]).cpu()


class Sums:
    """Moments of one unit's rows, past and own channels side by side, and how the logits feel its
    channels.
    """

    def __init__(self, past: int, own: int, device: torch.device) -> None:
        self.past = past
        self.moments = eq.empty(past + own, 0, device)
        self.sensitivity = torch.zeros(own, own, dtype=torch.float64, device=device)

    def add(self, own: Tensor, past: Tensor, slopes: Tensor, at: Tensor, source: Stream) -> None:
        """Add a batch, rows at the positions ``at``; sensitivities are relative to the batch's
        mean.
        """
        rows = torch.cat([chosen(past, at), chosen(own, at)], 1)
        felt = slopes.square().sum(1).gather(1, at)
        relative = (felt / felt.mean().clamp_min(torch.finfo(felt.dtype).tiny)).clamp_max(CLIP)
        measured = source.calibration.measured
        weights = (1 - measured + measured * relative).flatten()
        eq.add(self.moments, rows, rows[:, :0], weights)
        flat = slopes.transpose(1, 2).flatten(0, 1)
        self.sensitivity += (flat.T @ flat).double() / source.calibration.images

    def left(self, source: Stream) -> Tensor:
        """What stays felt of the unit once the past stands in for it, float64 ()."""
        gram = eq.normal(self.moments, 0.0, centred=True).gram
        past, cross, own = (gram[: self.past], gram[: self.past, self.past :], gram[self.past :])
        past, own = past[:, : self.past].clone(), own[:, self.past :]
        mean = past.diagonal().mean()
        past.diagonal().add_(torch.where(mean > 0, source.calibration.ridge * mean, 1.0))
        rest = own - cross.T @ torch.cholesky_solve(cross, factor(past))
        survey = Survey([], [], self.sensitivity)
        unit = self.sensitivity.diagonal().mean()
        return (unit * (metric(survey, source.calibration.joint) * rest).sum()).clamp_min(0.0)


def meetings(
    model: nn.Module, units: list[Unit], x: Tensor, generator: torch.Generator
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Every unit's output, what goes past it, and how the logits feel the output, each (n,
    channels, positions).

    How they feel it is as in ``jacobians``: ∂ v·logits / ∂ output for one random v an image.
    """
    own: dict[int, Tensor] = {}
    past: dict[int, Tensor] = {}

    def follow(number: int, output: Tensor, others: list[Tensor]) -> Tensor:
        if number not in own:
            own[number] = output if output.requires_grad else output.detach().requires_grad_()
            held = [maps(units[number], other).detach() for other in others]
            past[number] = torch.cat(held, 1).clone()
        return own[number].clone()  # a sum in place must not change what is differentiated for

    with frozen(model), torch.enable_grad(), differentiated(), Joining(units, follow, first=False):
        logits = model(x)
        v = torch.randn(logits.shape, generator=generator).to(logits)
        value = (logits * (v - v.mean(1, keepdim=True))).sum()
    outputs = [own[number] for number in range(len(units))]
    with differentiated():
        slopes = torch.autograd.grad(value, outputs, materialize_grads=True)
    return [
        (maps(unit, output.detach()), past[number], maps(unit, slope))
        for number, (unit, output, slope) in enumerate(zip(units, outputs, slopes, strict=True))
    ]
