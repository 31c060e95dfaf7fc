"""Elimination at single weights: sweeps, growth, exact counts and earlier rounds."""

from __future__ import annotations

import pytest
import torch

from mint_cli.solver import choice as el
from mint_cli.solver import equations as ls
from mint_cli.solver import single as we
from mint_cli.solver.rows import Problem


@pytest.fixture
def equations() -> ls.Normal:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    u = normal(600, 12) @ (torch.eye(12, dtype=torch.float64) + normal(12, 12) / 12**0.5)
    t = u @ normal(12, 5)
    moments = ls.empty(12, 5, u.device)
    ls.add(moments, u, t, torch.ones(600, dtype=torch.float64))
    return ls.normal(moments, 1e-2, True)


@pytest.fixture
def metric() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    return mixing.T @ mixing + 0.1 * torch.eye(5, dtype=torch.float64)


def problem(equations, metric) -> Problem:
    return Problem(None, equations, metric, None)


def felt(equations, metric, weights) -> float:
    """Felt error of weights, less that of none."""
    explained = 2 * ((metric @ weights) * equations.cross.T).sum()
    return float((metric @ (weights @ equations.gram) * weights).sum() - explained)


def test_costs_are_those_of_elimination_at_blocks_of_one_column_and_one_output(equations, metric):
    blocks = el.cut(equations, metric, torch.arange(5), torch.arange(12))
    layer = we.ready(equations, metric, 12)
    torch.testing.assert_close(we.costs(layer), el.costs(blocks, 12), rtol=1e-3, atol=1e-4)


def test_one_output_a_chunk_sweeps_as_elimination_at_blocks_does(equations, metric):
    support, weights = we.choose(problem(equations, metric), 20, 12, 0)
    blocks = el.cut(equations, metric, torch.arange(5), torch.arange(12))
    ours = we.sweep(we.ready(equations, metric, 12), weights, support.sum(1), chunk=1)
    torch.testing.assert_close(ours, el.sweep(blocks, weights, support, 12), rtol=1e-2, atol=1e-3)


def test_outputs_that_grow_to_all_columns_cost_what_they_do_without(equations, metric):
    layer = we.ready(equations, metric, 12)
    order, rises, kept = we.ranked(layer, layer.cross, torch.full((5,), 4))
    again = we.regrown(layer, layer.cross, torch.full((5,), 4), None)
    assert (again[0] == order).all()
    torch.testing.assert_close(again[1], rises, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(again[2], kept, rtol=1e-3, atol=1e-4)


def test_columns_that_are_not_grown_to_cost_nothing_or_what_they_would_still_explain(
    equations, metric
):
    layer = we.ready(equations, metric, 6)
    plain, beyond = we.costs(layer), we.costs(layer, beyond=True)
    assert layer.inverse is None and ((plain > 0).sum(1) == 6).all()
    ranked = plain > 0
    assert torch.equal(beyond[ranked], plain[ranked]) and (beyond[~ranked] > 0).all()
    least = torch.where(ranked, plain, torch.inf).min(1).values
    assert (beyond <= torch.where(ranked, beyond, least[:, None])).all()


@pytest.mark.parametrize("depth", [12, 7])
@pytest.mark.parametrize("sweeps", [0, 2])
def test_so_many_weights_stay_and_are_the_best_on_their_support(equations, metric, depth, sweeps):
    support, weights = we.choose(problem(equations, metric), 17, depth, sweeps)
    assert int(support.sum()) == 17 and (weights[~support] == 0).all()
    left = metric @ (equations.cross.T - weights @ equations.gram)
    assert left[support].abs().max() < 1e-2 * left.abs().max()


def test_a_sweep_leaves_less_felt_error(equations, metric):
    found = [we.choose(problem(equations, metric), 15, 12, sweeps)[1] for sweeps in (0, 1)]
    assert felt(equations, metric, found[1]) < felt(equations, metric, found[0])


@pytest.mark.parametrize("depth", [12, 7])
def test_weights_gone_in_an_earlier_round_stay_gone(equations, metric, depth):
    first, _ = we.choose(problem(equations, metric), 30, depth, 1)
    second, _ = we.choose(problem(equations, metric), 15, depth, 1, gone=~first)
    assert int(second.sum()) == 15 and not (second & ~first).any()


def test_an_order_can_be_cut_anywhere(equations):
    layer = we.ready(equations, torch.eye(5, dtype=torch.float64), 12)
    counts = torch.tensor([0, 1, 5, 11, 12])
    order, _, kept = we.ranked(layer, layer.cross, counts)
    support = we.cut(order, counts, 12)
    assert (support.sum(1) == counts).all()
    torch.testing.assert_close(ls.solve(equations, support).float(), kept, rtol=1e-3, atol=1e-3)
