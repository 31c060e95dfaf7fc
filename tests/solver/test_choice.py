"""Choosing blocks: costs against brute force, sweeps that answer the errors of others, and the energy that is left."""

import itertools

import pytest
import torch

from mint_cli.solver import choice as el
from mint_cli.solver import equations as ls


@pytest.fixture
def equations() -> ls.Normal:
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(600, 8, generator=generator, dtype=torch.float64) @ torch.randn(8, 8, generator=generator, dtype=torch.float64)
    t = u @ torch.randn(8, 4, generator=generator, dtype=torch.float64)
    moments = ls.empty(8, 4, u.device)
    ls.add(moments, u, t, torch.ones(600, dtype=torch.float64))
    return ls.normal(moments, 1e-2, True)


@pytest.fixture
def metric() -> torch.Tensor:
    mixing = torch.randn(2, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return mixing.T @ mixing + 0.1 * torch.eye(4, dtype=torch.float64)


def felt(equations, metric, support) -> float:
    """Least felt error on a support, less that of predicting the means."""
    weights = ls.solve_jointly(equations, metric, support, ls.solve(equations, support), 1e-7, 1000)
    return float((metric @ (weights @ equations.gram) * weights).sum() - 2 * ((metric @ weights) * equations.cross.T).sum())


def test_a_lone_child_group_is_charged_exactly_the_rise_of_the_felt_error(equations, metric):
    layer = el.layer(equations, metric, torch.zeros(4, dtype=torch.int64), torch.arange(8) // 2)
    cost = el.costs(layer, 4)[0]
    order, dearest = ls.ranked(layer.gram, layer.cross @ el.root(layer.metric), 2, 4)[0], 0.0

    def error(kept):
        support = torch.zeros(4, 8, dtype=torch.bool)
        for g in kept:
            support[:, 2 * g : 2 * g + 2] = True
        return felt(equations, metric, support)

    for step in range(4):
        kept = order[step:].tolist()
        rises = [error([h for h in kept if h != g]) - error(kept) for g in kept]
        dearest = max(dearest, rises[0])  # a block never counts for less than one that went before it
        assert min(rises) == pytest.approx(rises[0], rel=1e-3)
        assert float(cost[order[step]]) == pytest.approx(dearest, rel=1e-3)


def test_with_full_weights_a_sweep_of_one_group_charges_what_costs_do(equations, metric):
    layer = el.layer(equations, metric, torch.zeros(4, dtype=torch.int64), torch.arange(8))
    full = torch.linalg.solve(equations.gram, equations.cross).T
    kept = torch.ones(1, 8, dtype=torch.bool)
    torch.testing.assert_close(el.sweep(layer, full, kept, 8), el.costs(layer, 8), rtol=1e-3, atol=1e-3)


def test_of_two_outputs_whose_sum_alone_is_felt_the_second_answers_the_error_of_the_first(equations):
    """Both outputs are input 0; output 0 has lost it.  Alone output 1 needs it once, together it must carry it twice."""
    cross = equations.gram[:, [0, 0]]
    twins = ls.Normal(equations.gram, cross, equations.inputs, equations.targets[:2], equations.variance[:2])
    together = torch.ones(2, 2, dtype=torch.float64) + 1e-3 * torch.eye(2, dtype=torch.float64)
    layer = el.layer(twins, together, torch.arange(2), torch.arange(8))
    weights = torch.zeros(2, 8, dtype=torch.float64)
    weights[1, 0] = 1.0
    kept = torch.zeros(2, 8, dtype=torch.bool)
    kept[1, 0] = True
    alone, answered = el.costs(layer, 8)[1, 0], el.sweep(layer, weights, kept, 8)[1, 0]
    assert float(answered / alone) == pytest.approx(4.0, rel=0.02)


def test_the_dearest_blocks_stay_and_as_many_cells_of_every_size_go_block_after_block():
    child, parent = torch.tensor([0, 1]), torch.tensor([0, 0, 1, 1, 2])  # blocks of 2, 2 and 1 cells
    cost = torch.tensor([[3.0, 1.0, 9.0], [2.0, 4.0, 8.0]])
    mask = torch.tensor([[True, False, False, False, True], [True, True, True, True, False]])
    kept = el.dearest(cost, mask, child, parent)
    assert kept.tolist() == [[True, True, False, False, True], [False, True, True, True, False]]


def test_shares_of_energy_multiply_up_and_what_costs_nothing_is_worth_nothing():
    """1 minus each share is the share of energy left, so the product over all but the last block is the last block's share."""
    cost = torch.tensor([[4.0, 1.0, 0.0], [2.0, 3.0, 0.0]], dtype=torch.float64)
    worth = el.worth(cost)
    assert worth[0, 2] == worth[1, 2] == 0.0 and worth[0, 0] == cost.sum()
    left = [1 - float(worth[at] / cost.sum()) for at in ((0, 1), (1, 0), (1, 1))]
    assert left[0] * left[1] * left[2] == pytest.approx(4.0 / 10.0)
    assert worth[0, 1] == 1.0  # the first to go takes its cost from all the energy there is
    assert all(worth.flatten()[a] < worth.flatten()[b] for a, b in itertools.pairwise([1, 3, 4, 0]))
