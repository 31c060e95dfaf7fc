"""Whole channels eliminated for all their readers at once, against brute force."""

import pytest
import torch
from regression import problem
from torch import nn

from mint_cli.network.cells import readers
from mint_cli.protocol import Cells
from mint_cli.solver import blocks as bl
from mint_cli.solver.channels import columns_of, eliminate, part
from mint_cli.solver.choice import root
from mint_cli.solver.rows import Problem

CHANNELS = 5


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reader(
    owner: list[int], outputs: int, kernel: int = 1, seed: int = 0
) -> tuple[Problem, torch.Tensor]:
    """A reader of correlated inputs, with a metric of its outputs, and whose every input is."""
    k = len(owner) * kernel
    u = normal(400, k, seed=seed) @ normal(k, k, seed=seed + 1) + 1
    t = u @ normal(k, outputs, seed=seed + 2) + normal(400, outputs, seed=seed + 3)
    equations = problem(u, t, torch.ones(400, dtype=torch.float64), ridge=0.01)
    felt = normal(outputs, outputs, seed=seed + 4)
    metric = felt @ felt.T + torch.eye(outputs)
    return Problem(nn.Linear(k, outputs), equations, metric, None), torch.tensor(owner)


def loss(found: Problem, owner: torch.Tensor, kept: list[int], unit: float) -> float:
    """What the logits feel of the best weights on the channels kept and the inputs of nobody."""
    kernel = len(found.equations.gram) // len(owner)
    stay = torch.tensor([o < 0 or o in kept for o in owner.tolist()]).repeat_interleave(kernel)
    gram, cross = found.equations.gram[stay][:, stay], found.equations.cross[stay]
    explained = cross.T @ torch.linalg.solve(gram, cross)
    return -unit * float((found.metric * explained).sum())


READERS = [
    reader([0, 1, 2, 3, 4], 3, kernel=2),
    reader([4, 4, 0, -1, 2, 1, 3, -1], 2, seed=10),  # two inputs a channel, others of nobody
]
NARROW = reader([0, 1, 2], 4, seed=20)  # does not read channels 3 and 4
UNITS = [0.5, 3.0]


def of(found: Problem, owner: torch.Tensor, unit: float):
    every = torch.ones(found.metric.shape[0], len(found.equations.gram), dtype=torch.bool)
    return part(found, every, owner, CHANNELS, unit)


@pytest.mark.parametrize("own", [READERS, [*READERS, NARROW], [NARROW, READERS[0]]])
def test_every_step_costs_all_readers_together_what_brute_force_says_and_least(own):
    units = [*UNITS, 1.0][: len(own)]
    order, rises = eliminate([of(*r, u) for r, u in zip(own, units, strict=True)], CHANNELS)
    left, most = list(range(CHANNELS)), 0.0

    def together(kept):
        return sum(loss(*r, kept, u) for r, u in zip(own, units, strict=True))

    for step in range(CHANNELS):
        rise = {c: together([d for d in left if d != c]) - together(left) for c in left}
        best = min(rise, key=rise.get)
        most = max(most, rise[best])
        assert int(order[step]) == best
        assert float(rises[step]) == pytest.approx(most, rel=1e-4, abs=1e-6)
        left.remove(best)


def test_of_a_single_reader_the_order_is_that_of_its_blocks():
    found, owner = READERS[0]
    order, rises = eliminate([of(found, owner, 1.0)], CHANNELS)
    inverse = torch.linalg.inv(found.equations.gram)
    weights = root(found.metric).double() @ (inverse @ found.equations.cross).T
    wanted, costs = bl.eliminate(inverse, weights, 2)
    assert torch.equal(order, wanted)
    torch.testing.assert_close(rises.double(), costs.cummax(0).values, rtol=1e-4, atol=0)


def test_a_channel_that_nobody_listens_to_goes_first_and_costs_nothing():
    found, owner = reader([0, 1, 2, 3, 4], 3, seed=30)
    found.equations.gram[3], found.equations.gram[:, 3] = 0.0, 0.0
    found.equations.gram[3, 3], found.equations.cross[3] = 1.0, 0.0
    order, rises = eliminate([of(found, owner, 1.0), of(*NARROW, 1.0)], CHANNELS)
    assert (
        int(order[0]) in (3, 4) and int(order[0]) == 3 and float(rises[0]) < 1e-6 * float(rises[1])
    )


def test_what_is_gone_of_a_reader_counts_nothing():
    found, owner = READERS[0]
    support = torch.ones(3, 10, dtype=torch.bool)
    support[1], support[:, 4:6] = False, False  # an output, and channel 2
    order, rises = eliminate([part(found, support, owner, CHANNELS, 1.0)], CHANNELS)
    assert int(order[0]) == 2 and float(rises[0]) == 0.0
    metric = found.metric[[0, 2]][:, [0, 2]]
    lesser = Problem(found.module, bl_cut(found.equations), metric, None)
    rise = {c: loss(lesser, owner, [d for d in (0, 1, 3, 4) if d != c], 1.0) for c in (0, 1, 3, 4)}
    assert int(order[1]) == min(rise, key=rise.get)
    before = loss(lesser, owner, [0, 1, 3, 4], 1.0)
    assert float(rises[1]) == pytest.approx(min(rise.values()) - before, rel=1e-4)


def bl_cut(equations):
    """The equations of outputs 0 and 2."""
    from dataclasses import replace

    return replace(equations, cross=equations.cross[:, [0, 2]])


def test_inputs_of_others_take_no_room():
    owner = torch.tensor([-1] * 50 + [1, 0, 1])
    assert columns_of(owner, 3).tolist() == [[51, -1], [50, 52], [-1, -1]]


def test_readers_are_the_layers_whose_inputs_are_labelled():
    labels = {
        "a.weight": torch.arange(3), "a.bias": torch.arange(3),
        "b.weight": torch.tensor([[0, -1, 2]] * 4),
    }  # fmt: skip
    found = readers(Cells((3,), labels))
    assert set(found) == {"b"} and found["b"].tolist() == [0, -1, 2]
