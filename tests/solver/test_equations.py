"""Least squares under masks against solutions written out in full."""

import pytest
import torch
from regression import noisy_rows, problem

from mint_cli.errors import DataError
from mint_cli.solver import equations as eq


@pytest.fixture
def rows():
    return noisy_rows()


@pytest.fixture
def support():
    return torch.rand(3, 12, generator=torch.Generator().manual_seed(1)) < 0.6


def test_a_solve_on_a_support_is_weighted_least_squares_with_a_bias_on_its_columns(rows, support):
    u, t, weight = rows
    equations = problem(*rows)
    weights = eq.solve(equations, support)
    bias = equations.targets - weights @ equations.inputs
    for o in range(3):
        design = torch.cat([u[:, support[o]], torch.ones(400, 1, dtype=u.dtype)], 1)
        design = design * weight.sqrt()[:, None]
        wanted = torch.linalg.lstsq(design, t[:, o] * weight.sqrt()).solution
        found = torch.cat([weights[o, support[o]], bias[o : o + 1]])
        torch.testing.assert_close(found, wanted)
        assert (weights[o, ~support[o]] == 0.0).all()


def test_uncentred_it_is_weighted_least_squares_without_a_bias(rows):
    u, t, weight = rows
    found = eq.solve(problem(*rows, centred=False), torch.ones(3, 12, dtype=torch.bool))
    root = weight.sqrt()[:, None]
    torch.testing.assert_close(found, torch.linalg.lstsq(u * root, t * root).solution.T)


@pytest.mark.parametrize("ridge", [0.01, 0.5])
def test_the_ridge_is_in_units_of_the_mean_variance_of_the_inputs(rows, ridge):
    u, _, weight = rows
    centred = u - (u * weight[:, None]).sum(0) / weight.sum()
    covariance = (centred * weight[:, None]).T @ centred / weight.sum()
    found = problem(*rows, ridge=ridge).gram - covariance
    wanted = ridge * covariance.diagonal().mean() * torch.eye(12, dtype=u.dtype)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


def test_the_residual_is_the_variance_that_the_weights_leave(rows):
    u, t, weight = rows
    equations = problem(*rows)
    weights = eq.solve(equations, torch.ones(3, 12, dtype=torch.bool))
    error = t - u @ weights.T - (equations.targets - weights @ equations.inputs)
    wanted = (error.square() * weight[:, None]).sum(0) / weight.sum()
    torch.testing.assert_close(eq.residual(equations, weights), wanted)


@pytest.mark.parametrize("value", [0.0, 0.1, 100.0])
def test_of_inputs_that_never_vary_the_targets_mean_is_all_that_can_be_said(rows, value):
    u, t, weight = (part.float() for part in rows)
    flat, full = torch.full_like(u, value), torch.ones(3, 12, dtype=torch.bool)
    equations = problem(flat, t, weight, ridge=0.01)
    apart = eq.solve(equations, full)
    together = eq.solve_jointly(equations, torch.ones(3, 3) + torch.eye(3), full, apart)
    for weights in (apart, together):
        said = weights @ flat[0].double() + equations.targets - weights @ equations.inputs
        torch.testing.assert_close(said, equations.targets, rtol=0, atol=1e-4)


@pytest.mark.parametrize("k", [12, 1030])  # from 1,024 inputs on the gram is made in parts
def test_rows_in_pieces_give_the_same_problem_as_in_one(rows, k):
    u, t, weight = rows
    u = (
        u
        if k == 12
        else torch.randn(400, k, generator=torch.Generator().manual_seed(2), dtype=u.dtype)
    )
    whole, moments = problem(u, t, weight, ridge=0.1), eq.empty(k, 3, torch.device("cpu"))
    for piece in torch.arange(400).split(33):
        eq.add(moments, u[piece], t[piece], weight[piece])
    pieces = eq.normal(moments, 0.1, True)
    assert moments.rows == 400
    for name in ("gram", "cross", "inputs", "targets", "variance"):
        torch.testing.assert_close(getattr(pieces, name), getattr(whole, name))
    plain = (u * weight[:, None]).T @ u / weight.sum() - torch.outer(whole.inputs, whole.inputs)
    off = ~torch.eye(k, dtype=torch.bool)
    torch.testing.assert_close(whole.gram[off], plain[off])


@pytest.mark.parametrize("sparse", [0.0, 1.0])
def test_a_joint_solve_is_the_solution_of_the_whole_system_written_out(
    rows, support, sparse, monkeypatch
):
    monkeypatch.setattr(eq, "SPARSE", sparse)
    equations = problem(*rows, ridge=0.05)
    mixing = torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    metric = mixing @ mixing.T + 0.1 * torch.eye(3, dtype=torch.float64)
    free = support.flatten()
    system = torch.kron(metric, equations.gram)[free][:, free]
    wanted = torch.zeros(36, dtype=torch.float64)
    wanted[free] = torch.linalg.solve(system, (metric @ equations.cross.T).flatten()[free])
    apart = eq.solve(equations, support)
    found = eq.solve_jointly(equations, metric, support, apart, tolerance=1e-6, iterations=500)
    torch.testing.assert_close(found, wanted.view(3, 12), rtol=1e-3, atol=1e-3)
    assert (found[~support] == 0.0).all()
    assert (
        apart - wanted.view(3, 12)
    ).abs().max() > 0.05  # outputs by themselves: another solution


def test_outputs_that_nothing_joins_are_solved_by_themselves(rows, support):
    equations = problem(*rows, ridge=0.05)
    alone, metric = eq.solve(equations, support), torch.diag(torch.tensor([1.0, 2.0, 0.5]))
    found = eq.solve_jointly(equations, metric, support, torch.zeros_like(alone), 1e-6, 500)
    torch.testing.assert_close(found, alone, rtol=1e-3, atol=1e-3)


def test_a_gram_that_rounding_has_left_indefinite_is_solved_with_as_little_more_as_that_needs():
    """Twin inputs with a ridge below float32's rounding: the larger of the two eigenvalues
    stays.
    """
    root = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    root = torch.cat([root, root], 1)
    gram = (root.T @ root).double() / 400
    gram -= 1e-7 * torch.eye(12, dtype=gram.dtype)
    assert torch.linalg.cholesky_ex(gram)[1] > 0
    found = eq.factor(gram)
    torch.testing.assert_close(found @ found.T, gram, rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match="a layer's inputs are not finite"):
        eq.factor(gram * torch.nan)
    sound = gram + torch.eye(12, dtype=gram.dtype)
    assert torch.equal(eq.factor(sound), torch.linalg.cholesky(sound))
    worse = gram - 1e-3 * torch.eye(12, dtype=gram.dtype)
    each = eq.factor(torch.stack([gram, sound, worse]))
    assert all(
        torch.equal(root, eq.factor(own))
        for root, own in zip(each, (gram, sound, worse), strict=True)
    )


def test_outputs_of_one_support_are_one_group_and_those_without_any_are_left_out():
    support = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 0, 1], [0, 1, 0]], dtype=torch.bool)
    groups = {tuple(r.tolist()): at.tolist() for r, at in eq.shared(support)}
    assert groups == {(0, 2): [0, 2], (3,): [1]}


def test_a_product_over_the_kept_columns_is_the_whole_product(rows, support):
    equations = problem(*rows)
    support[1] = False
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(3, 12, generator=generator, dtype=torch.float64) * support
    found = eq.sparse_product(weights, equations.gram, eq.shared(support))
    torch.testing.assert_close(found, weights @ equations.gram)
