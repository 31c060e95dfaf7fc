"""Whole channels of a coupled set: what all their readers lose, against brute force."""

from types import SimpleNamespace

import pytest
import torch

from mint_cli.protocol import Cells
from mint_cli.solver import channels as cn
from mint_cli.solver import equations as eq
from mint_cli.solver.rows import Problem

UNIT = 3.0


def problem(inputs: int, outputs: int, kernel: int, seed: int) -> Problem:
    """A reader of ``inputs`` channels, ``kernel`` columns each."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    k = inputs * kernel
    u = normal(500, k) @ normal(k, k)
    t, mixing = u @ normal(k, outputs) + normal(500, outputs), normal(outputs, outputs)
    moments = eq.empty(k, outputs, u.device)
    eq.add(moments, u, t, torch.ones(500, dtype=torch.float64))
    metric = mixing @ mixing.T + 0.2 * torch.eye(outputs, dtype=torch.float64)
    return Problem(SimpleNamespace(), eq.normal(moments, 1e-2, True), metric, None)


def felt(found: Problem, columns: list[int], outputs: list[int]) -> float:
    """Least error that the logits feel on some columns, less that of predicting the means."""
    metric = found.metric[outputs][:, outputs]
    gram, cross = found.equations.gram[columns][:, columns], found.equations.cross[columns][:, outputs]
    if not columns:
        return 0.0
    weights = torch.linalg.solve(gram, cross).T
    return -UNIT * float((metric @ weights * cross.T).sum())


def columns_of(owner: list[int], kernel: int, kept: list[int]) -> list[int]:
    """Columns of the flat weight whose channel is kept, or belongs to no cell (−1)."""
    return [i * kernel + j for i, c in enumerate(owner) if c in kept or c < 0 for j in range(kernel)]


READERS = [  # owner of every input, outputs, kernel
    ([0, 1, 2, 3], 3, 4),
    ([3, -1, 0, 0, 2, 1], 2, 1),
    ([-1, 0, 1, 2, 3], 4, 2),
]


@pytest.fixture
def readers():
    return [(problem(len(o), m, k, i), o, k) for i, (o, m, k) in enumerate(READERS)]


def part(found: Problem, owner: list[int], support: torch.Tensor | None = None) -> cn.Part:
    k, outputs = len(found.equations.gram), len(found.metric)
    support = torch.ones(outputs, k, dtype=torch.bool) if support is None else support
    return cn.part(found, support, torch.tensor(owner), 4, UNIT)


def test_each_elimination_costs_all_readers_what_brute_force_says_and_is_the_cheapest(readers):
    order, rises = cn.eliminate([part(p, o) for p, o, _ in readers], 4)
    most = 0.0

    def error(kept):
        return sum(felt(p, columns_of(o, k, kept), list(range(len(p.metric)))) for p, o, k in readers)

    for step in range(4):
        kept = order[step:].tolist()
        rise = {c: error([h for h in kept if h != c]) - error(kept) for c in kept}
        assert order[step] == min(rise, key=rise.get)
        most = max(most, rise[int(order[step])])
        assert float(rises[step]) == pytest.approx(most, rel=1e-3)


def test_outputs_and_inputs_that_are_gone_take_no_part(readers):
    found, owner, kernel = readers[2]
    rows, columns = torch.tensor([True, False, True, True]), torch.ones(10, dtype=torch.bool)
    columns[:2] = False  # of no cell
    own = part(found, owner, rows[:, None] & columns[None, :])
    order, rises = cn.eliminate([own], 4)
    left = [0, 2, 3]

    def error(kept):
        return felt(found, [c for c in columns_of(owner, kernel, kept) if columns[c]], left)

    total = error([]) - error([0, 1, 2, 3])
    if (rises.diff() > 0).all():
        assert float(rises.sum()) == pytest.approx(total, rel=1e-3)
    first = int(order[0])
    rise = error([c for c in range(4) if c != first]) - error([0, 1, 2, 3])
    assert float(rises[0]) == pytest.approx(rise, rel=1e-3)


def test_a_channel_that_a_reader_does_not_have_costs_it_nothing(readers):
    found, _, _ = readers[0]
    own = part(found, [0, 1, 2, 2])  # nothing of channel 3
    order, rises = cn.eliminate([own], 4)
    assert order[0] == 3 and rises[0] == pytest.approx(0, abs=1e-6)
    both = [own, part(readers[1][0], readers[1][1])]
    assert sorted(cn.eliminate(both, 4)[0].tolist()) == [0, 1, 2, 3]


def test_readers_are_the_layers_that_lose_columns():
    labels = {
        "made.weight": torch.tensor([0, 1, 2], dtype=torch.int32),
        "made.bias": torch.tensor([0, 1, 2], dtype=torch.int32),
        "read.weight": torch.tensor([0, 1, 2, -1], dtype=torch.int32).expand(5, 4),
    }
    found = cn.readers(Cells((3,), labels))
    assert list(found) == ["read"] and found["read"].tolist() == [0, 1, 2, -1]
