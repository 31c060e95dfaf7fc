"""Choosing cells: costs against brute force, sweeps that answer others, and the energy left."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mint_cli.protocol import Cells
from mint_cli.solver import blocks as bl
from mint_cli.solver import choice as ch
from mint_cli.solver import equations as eq
from mint_cli.solver.rows import Problem, solve


@pytest.fixture
def equations() -> eq.Normal:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    u = normal(600, 8) @ normal(8, 8)
    t = u @ normal(8, 4)
    moments = eq.empty(8, 4, u.device)
    eq.add(moments, u, t, torch.ones(600, dtype=torch.float64))
    return eq.normal(moments, 1e-2, True)


@pytest.fixture
def metric() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    return mixing.T @ mixing + 0.1 * torch.eye(4, dtype=torch.float64)


def felt(equations, metric, weights) -> float:
    """Error that the logits feel, less that of predicting the means."""
    energy = (metric @ (weights @ equations.gram) * weights).sum()
    return float(energy - 2 * ((metric @ weights) * equations.cross.T).sum())


def least_felt(equations, metric, support) -> float:
    """The least felt error on a support."""
    apart = eq.solve(equations, support)
    return felt(equations, metric, eq.solve_jointly(equations, metric, support, apart, 1e-7, 1000))


def test_a_lone_child_group_is_charged_exactly_the_rise_of_the_felt_error(equations, metric):
    layer = ch.cut(equations, metric, torch.zeros(4, dtype=torch.int64), torch.arange(8) // 2)
    cost = ch.costs(layer, 4)[0]
    order, most = bl.ranked(layer.gram, layer.cross @ ch.root(layer.metric), 2, 4)[0], 0.0

    def error(kept):
        support = torch.zeros(4, 8, dtype=torch.bool)
        for g in kept:
            support[:, 2 * g : 2 * g + 2] = True
        return least_felt(equations, metric, support)

    for step in range(4):
        kept = order[step:].tolist()
        rises = [error([h for h in kept if h != g]) - error(kept) for g in kept]
        most = max(most, rises[0])  # a cell never counts for less than one that went before it
        assert min(rises) == pytest.approx(rises[0], rel=1e-3)
        assert float(cost[order[step]]) == pytest.approx(most, rel=1e-3)


def test_cells_beyond_the_depth_cost_what_they_would_explain_but_never_more_than_ranked_ones(
    equations, metric
):
    layer = ch.cut(equations, metric, torch.tensor([0, 0, 1, 1]), torch.arange(8))
    for count in (1, 3, 7):
        plain, beyond = ch.costs(layer, count), ch.costs(layer, count, beyond=True)
        for c, rows in enumerate(layer.members):
            target = layer.cross[:, rows] @ ch.root(layer.metric[rows][:, rows])
            order, rises, gains = bl.ranked(layer.gram, target, 1, count)
            rest = torch.tensor([g for g in range(8) if g not in order])
            assert torch.equal(plain[c, order], beyond[c, order]) and (plain[c, rest] == 0).all()
            assert (beyond[c, rest] > 0).all() and beyond[c, rest].max() <= beyond[c, order].min()
            wanted = gains[rest].clamp_max(float(rises[0])).double()
            torch.testing.assert_close(beyond[c, rest], wanted)


def test_with_full_weights_a_sweep_of_one_group_charges_what_costs_do(equations, metric):
    layer = ch.cut(equations, metric, torch.zeros(4, dtype=torch.int64), torch.arange(8))
    full = torch.linalg.solve(equations.gram, equations.cross).T
    found = ch.sweep(layer, full, torch.ones(1, 8, dtype=torch.bool), 8)
    torch.testing.assert_close(found, ch.costs(layer, 8), rtol=1e-3, atol=1e-3)


def only_the_sum_counts(equations, outputs: int) -> ch.Layer:
    """Every output is input 0, each a child group, and the logits feel nothing but their sum."""
    cross = equations.gram[:, [0] * outputs]
    targets, variance = (
        equations.targets[:1].expand(outputs),
        equations.variance[:1].expand(outputs),
    )
    alike = eq.Normal(equations.gram, cross, equations.inputs, targets, variance)
    together = torch.ones(outputs, outputs) + 1e-3 * torch.eye(outputs)
    return ch.cut(alike, together.double(), torch.arange(outputs), torch.arange(8))


def test_of_two_outputs_whose_sum_alone_is_felt_the_second_answers_the_error_of_the_first(
    equations,
):
    """Output 0 has lost input 0.  Alone output 1 needs it once, together it must carry it twice."""
    layer = only_the_sum_counts(equations, 2)
    weights, kept = torch.zeros(2, 8, dtype=torch.float64), torch.zeros(2, 8, dtype=torch.bool)
    weights[1, 0], kept[1, 0] = 1.0, True
    alone, answered = ch.costs(layer, 8)[1, 0], ch.sweep(layer, weights, kept, 8)[1, 0]
    assert float(answered / alone) == pytest.approx(4.0, rel=0.02)


def test_within_a_sweep_a_group_sees_what_the_groups_before_it_have_become(equations):
    """All three have lost input 0: the first takes it on for all of them, the others find nothing
    to do.
    """
    layer = only_the_sum_counts(equations, 3)
    kept = torch.zeros(3, 8, dtype=torch.bool)
    kept[:, 0] = True
    cost = ch.sweep(layer, torch.zeros(3, 8, dtype=torch.float64), kept, 8)[:, 0]
    alone = float(ch.costs(layer, 8)[0, 0])
    assert float(cost[0]) / alone == pytest.approx(9.0, rel=0.02)
    assert float(cost[1]) < 0.01 * alone and float(cost[2]) < 0.01 * alone


def test_as_many_cells_of_every_size_go_those_that_are_gone_and_the_cheapest_first():
    cost = torch.tensor([[3.0, 1.0, 9.0], [2.0, 4.0, 8.0]])
    weights = torch.tensor([[2, 2, 1], [2, 2, 1]])
    kept = torch.tensor([[False, True, True], [True, False, False]])  # two of four, one of two go
    none = torch.zeros_like(kept)
    found = ch.cheapest(cost, weights, kept, none)
    assert found.tolist() == [[True, False, True], [False, True, False]]
    gone = torch.tensor([[False, False, True], [False, True, False]])
    found = ch.cheapest(cost, weights, kept, gone)
    assert found.tolist() == [[True, False, False], [True, False, True]]


def test_equal_costs_go_in_order_of_position_and_cells_gone_before_even_those_of_no_cost():
    kept = torch.tensor([[True, True, False, False]])
    ones, free = torch.ones(1, 4, dtype=torch.int64), torch.zeros(1, 4)
    gone = torch.tensor([[False, False, False, True]])
    assert ch.cheapest(free, ones, kept, ~kept & kept).tolist() == [[False, False, True, True]]
    assert ch.cheapest(free, ones, kept, gone).tolist() == [[False, True, True, False]]


def test_shares_of_energy_multiply_up_and_what_costs_nothing_is_worth_nothing():
    """1 minus a share is the share of energy left: the product of all but the last is the
    last's.
    """
    cost = torch.tensor([[4.0, 1.0, 0.0], [2.0, 3.0, 0.0]], dtype=torch.float64)
    worth = ch.worth(cost)
    assert worth[0, 2] == worth[1, 2] == 0.0 and worth[0, 0] == cost.sum()
    left = [1 - float(worth[at] / cost.sum()) for at in ((0, 1), (1, 0), (1, 1))]
    assert left[0] * left[1] * left[2] == pytest.approx(4.0 / 10.0)
    assert worth[0, 1] == 1.0  # the first to go takes its cost from all the energy there is
    ordered = itertools.pairwise(worth.flatten()[[1, 3, 4, 0]])
    assert all(first < second for first, second in ordered)


def test_a_child_group_grows_to_twice_what_it_keeps_at_least_four_and_at_most_all(
    equations, metric
):
    layer = ch.cut(equations, metric, torch.arange(4), torch.arange(8))
    assert [ch.depth(layer, kept, 2.0) for kept in (0.5, 2.4, 3.0, 7.0)] == [4, 5, 6, 8]


def ready(equations, metric, shape=(4, 8)) -> Problem:
    return Problem(
        SimpleNamespace(weight=nn.Parameter(torch.zeros(shape))), equations, metric, None
    )


def single(shape=(4, 8)) -> Cells:
    return Cells(shape, {"w": torch.arange(32, dtype=torch.int32).view(shape)})


@pytest.mark.parametrize("sweeps", [0, 2])
def test_a_choice_keeps_as_many_cells_and_its_weights_are_the_best_on_them(
    equations, metric, sweeps
):
    kept = torch.rand(4, 8, generator=torch.Generator().manual_seed(2)) < 0.4
    none = torch.zeros_like(kept)
    chosen, weights = ch.choose(ready(equations, metric), single(), kept, none, 2.0, sweeps)
    assert chosen.sum() == kept.sum() and (weights[~chosen] == 0).all()
    assert torch.equal(weights, solve(ready(equations, metric), chosen))
    assert felt(equations, metric, weights) < least_felt(equations, metric, kept)


def pairs() -> Cells:
    """Every output and two columns are a cell."""
    labels = torch.arange(4)[:, None] * 4 + torch.arange(8)[None, :] // 2
    return Cells((4, 4), {"w": labels.int()})


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_sweep_over_blocks_lowers_the_error_where_outputs_answer_each_other(equations, count):
    kept = (torch.arange(16) < count).view(4, 4)
    together = torch.ones(4, 4, dtype=torch.float64) + 0.02 * torch.eye(4, dtype=torch.float64)
    errors = [-least_felt(equations, together, torch.ones(4, 8, dtype=torch.bool))] * 2
    for sweeps in (0, 1):
        chosen, weights = ch.choose(
            ready(equations, together), pairs(), kept, ~kept & kept, 8.0, sweeps
        )
        assert chosen.sum() == kept.sum()
        errors[sweeps] += felt(equations, together, weights)
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("seed", [0, 1, 4])
def test_a_sweep_lowers_the_error_where_outputs_answer_each_other(equations, seed):
    kept = torch.rand(4, 8, generator=torch.Generator().manual_seed(seed)) < 0.3
    together = torch.ones(4, 4, dtype=torch.float64) + 0.02 * torch.eye(4, dtype=torch.float64)
    errors = [-least_felt(equations, together, torch.ones(4, 8, dtype=torch.bool))] * 2
    for sweeps in (0, 1):
        found = ch.choose(ready(equations, together), single(), kept, ~kept & kept, 8.0, sweeps)
        errors[sweeps] += felt(equations, together, found[1])
    assert errors[1] < 0.7 * errors[0]


def test_what_is_gone_stays_gone_whatever_it_carries(equations, metric):
    kept = torch.ones(4, 8, dtype=torch.bool)
    full = torch.linalg.solve(equations.gram, equations.cross).T
    gone = full.abs() > full.abs().flatten().sort().values[-9]  # the eight largest
    kept[gone] = False
    chosen, weights = ch.choose(ready(equations, metric), single(), kept, gone, 2.0, 1)
    assert torch.equal(chosen, kept) and (weights[gone] == 0).all()
    halves, blocks = gone.view(4, 4, 2).any(2), torch.ones(4, 4, dtype=torch.bool)
    blocks[halves] = False
    chosen, weights = ch.choose(ready(equations, metric), pairs(), blocks, halves, 2.0, 1)
    assert torch.equal(chosen, blocks) and (weights.view(4, 4, 2)[halves] == 0).all()
