"""Least squares under masks against solutions written out in full."""

import pytest
import torch

from mint_cli.solver import equations as ls


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    u = torch.randn(400, 12, generator=generator, dtype=torch.float64) @ mixing + 2
    t = u @ torch.randn(12, 3, generator=generator, dtype=torch.float64) + torch.randn(400, 3, generator=generator, dtype=torch.float64)
    return u, t, torch.rand(400, generator=generator, dtype=torch.float64) + 0.1


def problem(u, t, weight, ridge=0.0, centred=True) -> ls.Normal:
    moments = ls.empty(u.shape[1], t.shape[1], u.device)
    ls.add(moments, u, t, weight)
    return ls.normal(moments, ridge, centred)


def loss(equations: ls.Normal, output: int, columns: list[int]) -> float:
    """Ridge loss of the best weights on ``columns`` alone, less the variance of the target."""
    gram, cross = equations.gram[columns][:, columns], equations.cross[columns, output]
    return -float(cross @ torch.linalg.solve(gram, cross)) if columns else 0.0


def test_a_solve_on_a_support_is_weighted_least_squares_with_a_bias_on_its_columns(rows):
    u, t, weight = rows
    support = torch.rand(3, 12, generator=torch.Generator().manual_seed(1)) < 0.6
    equations = problem(*rows)
    weights = ls.solve(equations, support)
    bias = equations.targets - weights @ equations.inputs
    for o in range(3):
        design = torch.cat([u[:, support[o]], torch.ones(400, 1, dtype=u.dtype)], 1) * weight.sqrt()[:, None]
        wanted = torch.linalg.lstsq(design, t[:, o] * weight.sqrt()).solution
        torch.testing.assert_close(torch.cat([weights[o, support[o]], bias[o : o + 1]]), wanted)
        assert (weights[o, ~support[o]] == 0.0).all()


def test_the_residual_is_the_variance_that_the_weights_leave(rows):
    u, t, weight = rows
    equations = problem(*rows)
    weights = ls.solve(equations, torch.ones(3, 12, dtype=torch.bool))
    error = t - u @ weights.T - (equations.targets - weights @ equations.inputs)
    torch.testing.assert_close(ls.residual(equations, weights), (error.square() * weight[:, None]).sum(0) / weight.sum())


@pytest.mark.parametrize("value", [0.0, 0.1, 100.0])
def test_of_inputs_that_never_vary_the_targets_mean_is_all_that_can_be_said(rows, value):
    u, t, weight = (part.float() for part in rows)
    flat, support = torch.full_like(u, value), torch.ones(3, 12, dtype=torch.bool)
    equations = problem(flat, t, weight, ridge=0.01)
    apart = ls.solve(equations, support)
    for weights in (apart, ls.solve_jointly(equations, torch.ones(3, 3) + torch.eye(3), support, apart)):
        said = weights @ flat[0].double() + equations.targets - weights @ equations.inputs
        torch.testing.assert_close(said, equations.targets, rtol=0, atol=1e-4)


def test_rows_in_pieces_give_the_same_problem_as_in_one(rows):
    whole, moments = problem(*rows, ridge=0.1), ls.empty(12, 3, torch.device("cpu"))
    for piece in torch.arange(400).split(33):
        ls.add(moments, *(part[piece] for part in rows))
    pieces = ls.normal(moments, 0.1, True)
    assert moments.rows == 400
    for name in ("gram", "cross", "inputs", "targets", "variance"):
        torch.testing.assert_close(getattr(pieces, name), getattr(whole, name))


def test_each_elimination_costs_exactly_what_brute_force_says_and_is_the_cheapest(rows):
    equations, size = problem(*rows, ridge=0.01), 3
    columns = ls.blocks(torch.arange(4), size)
    inverse = torch.linalg.inv(equations.gram)
    weights = (inverse @ equations.cross).T
    for o in range(3):
        order, rises = ls.eliminate(inverse, weights[o : o + 1], size)
        for step in range(4):
            kept = [g for g in range(4) if g not in order[:step]]
            before = loss(equations, o, columns[kept].flatten().tolist())
            rise = {g: loss(equations, o, columns[[h for h in kept if h != g]].flatten().tolist()) - before for g in kept}
            assert order[step] == min(rise, key=rise.get)
            assert float(rises[step]) == pytest.approx(min(rise.values()))


def test_rows_that_share_a_support_lose_the_block_with_the_least_sum_of_their_losses(rows):
    equations = problem(*rows, ridge=0.01)
    inverse = torch.linalg.inv(equations.gram)
    order, rises = ls.eliminate(inverse, (inverse @ equations.cross).T, 1)

    def together(column):
        left = [c for c in range(12) if c != column]
        return sum(loss(equations, o, left) - loss(equations, o, list(range(12))) for o in range(3))

    assert order[0] == min(range(12), key=together)
    assert float(rises[0]) == pytest.approx(together(int(order[0])))
    assert sorted(order.tolist()) == list(range(12))


def test_of_two_inputs_that_say_the_same_one_goes_for_nothing_and_the_other_stays(rows):
    u, t, weight = rows
    twins = problem(torch.cat([u, u[:, :1]], 1), u[:, :1] * 5 + t, weight, ridge=1e-9)
    inverse = torch.linalg.inv(twins.gram)
    order, rises = ls.eliminate(inverse, (inverse @ twins.cross).T[:1], 1)
    first, second = sorted(order.tolist().index(c) for c in (0, 12))
    assert first == 0 and rises[first] < 1e-6 * rises[second]


def test_growth_adds_the_block_that_brute_force_says_explains_most(rows):
    equations, size = problem(*rows, ridge=0.01), 3
    columns = ls.blocks(torch.arange(4), size)
    order = ls.grow(equations.gram, equations.cross, size, 4).tolist()

    def left(blocks):
        return sum(loss(equations, o, columns[blocks].flatten().tolist()) for o in range(3))

    for step in range(4):
        rest = [g for g in range(4) if g not in order[:step]]
        assert order[step] == min(rest, key=lambda g: left([*order[:step], g]))


def test_blocks_of_unequal_groups_are_filled_up_and_idle_inputs_change_nothing(rows):
    equations, groups = problem(*rows, ridge=0.01), torch.tensor([0, 0, 1, 1, 1, 2])
    columns = ls.blocks(groups, 2)
    assert columns.tolist() == [[0, 1, 2, 3, -1, -1], [4, 5, 6, 7, 8, 9], [10, 11, -1, -1, -1, -1]]
    gram, cross = ls.padded(equations, columns)
    for count in (3, 2):  # eliminated from all; grown to two and eliminated from these
        order, rises = ls.ranked(gram, cross[:, :1], 6, count)
        kept = [c for c in columns[order].flatten().tolist() if c >= 0]
        last = [c for c in columns[order[-1]].tolist() if c >= 0]
        assert len(order) == count
        assert float(rises[-1]) == pytest.approx(-loss(equations, 0, last), rel=1e-3)
        if (rises.diff() > 0).all():
            assert float(rises.sum()) == pytest.approx(-loss(equations, 0, kept), rel=1e-3)


@pytest.mark.parametrize("sparse", [0.0, 1.0])
def test_a_joint_solve_is_the_solution_of_the_whole_system_written_out(rows, sparse, monkeypatch):
    monkeypatch.setattr(ls, "SPARSE", sparse)
    equations = problem(*rows, ridge=0.05)
    generator = torch.Generator().manual_seed(1)
    support = torch.rand(3, 12, generator=generator) < 0.6
    mixing = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    metric = mixing @ mixing.T + 0.1 * torch.eye(3, dtype=torch.float64)
    free = support.flatten()
    system = torch.kron(metric, equations.gram)[free][:, free]
    wanted = torch.zeros(36, dtype=torch.float64)
    wanted[free] = torch.linalg.solve(system, (metric @ equations.cross.T).flatten()[free])
    apart = ls.solve(equations, support)
    found = ls.solve_jointly(equations, metric, support, apart, tolerance=1e-6, iterations=500)
    torch.testing.assert_close(found, wanted.view(3, 12), rtol=1e-3, atol=1e-3)
    assert (found[~support] == 0.0).all()
    assert (apart - wanted.view(3, 12)).abs().max() > 0.05  # outputs by themselves: another solution


def test_outputs_that_nothing_joins_are_solved_by_themselves(rows):
    equations, support = problem(*rows, ridge=0.05), torch.rand(3, 12, generator=torch.Generator().manual_seed(1)) < 0.6
    alone = ls.solve(equations, support)
    found = ls.solve_jointly(equations, torch.diag(torch.tensor([1.0, 2.0, 0.5])), support, torch.zeros_like(alone), 1e-6, 500)
    torch.testing.assert_close(found, alone, rtol=1e-3, atol=1e-3)


def test_a_product_over_the_kept_columns_is_the_whole_product(rows):
    equations = problem(*rows)
    support = torch.rand(3, 12, generator=torch.Generator().manual_seed(1)) < 0.4
    support[1] = False
    weights = torch.randn(3, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * support
    torch.testing.assert_close(ls.sparse_product(weights, equations.gram, ls.shared(support)), weights @ equations.gram)
