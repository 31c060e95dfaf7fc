"""Orders of blocks against brute force."""

import pytest
import torch
from regression import loss, noisy_rows, problem

from mint_cli.solver import blocks as bl


@pytest.fixture
def rows():
    return noisy_rows()


@pytest.fixture
def columns():
    """Four blocks of three columns."""
    return bl.columns_of(torch.arange(12) // 3)


def flat(columns, chosen) -> list[int]:
    return [c for c in columns[chosen].flatten().tolist() if c >= 0]


def solved(equations):
    inverse = torch.linalg.inv(equations.gram)
    return inverse, (inverse @ equations.cross).T


def test_each_elimination_costs_exactly_what_brute_force_says_and_is_the_cheapest(rows, columns):
    equations = problem(*rows, ridge=0.01)
    inverse, weights = solved(equations)
    for o in range(3):
        order, rises = bl.eliminate(inverse, weights[o : o + 1], 3)
        for step in range(4):
            kept = [g for g in range(4) if g not in order[:step]]
            before = loss(equations, o, flat(columns, kept))
            left = {g: flat(columns, [h for h in kept if h != g]) for g in kept}
            rise = {g: loss(equations, o, own) - before for g, own in left.items()}
            assert order[step] == min(rise, key=rise.get)
            assert float(rises[step]) == pytest.approx(min(rise.values()))


def test_rows_that_share_a_support_lose_the_block_with_the_least_sum_of_their_losses(rows):
    equations = problem(*rows, ridge=0.01)
    order, rises = bl.eliminate(*solved(equations), 1)

    def together(column):
        every, left = list(range(12)), [c for c in range(12) if c != column]
        return sum(loss(equations, o, left) - loss(equations, o, every) for o in range(3))

    assert order[0] == min(range(12), key=together)
    assert float(rises[0]) == pytest.approx(together(int(order[0])))
    assert sorted(order.tolist()) == list(range(12))


def test_the_rises_of_all_blocks_sum_to_what_all_of_them_explain(rows):
    equations = problem(*rows, ridge=0.01)
    for size in (1, 2, 3, 4):
        _, rises = bl.eliminate(*solved(equations), size)
        wanted = -sum(loss(equations, o, list(range(12))) for o in range(3))
        assert float(rises.sum()) == pytest.approx(wanted)


def test_of_two_inputs_that_say_the_same_one_goes_for_nothing_and_the_other_stays(rows):
    u, t, weight = rows
    twins = problem(torch.cat([u, u[:, :1]], 1), u[:, :1] * 5 + t, weight, ridge=1e-9)
    inverse, weights = solved(twins)
    order, rises = bl.eliminate(inverse, weights[:1], 1)
    first, second = sorted(order.tolist().index(c) for c in (0, 12))
    assert first == 0 and rises[first] < 1e-6 * rises[second]


def test_growth_adds_the_block_that_brute_force_says_explains_most(rows, columns):
    equations = problem(*rows, ridge=0.01)

    def left(chosen):
        return sum(loss(equations, o, flat(columns, chosen)) for o in range(3))

    for count in range(5):
        order, gains = bl.grow(equations.gram, equations.cross, 3, count)
        order = order.tolist()
        for step in range(count):
            rest = [g for g in range(4) if g not in order[:step]]
            assert order[step] == min(rest, key=lambda g: left([*order[:step], g]))
        for g in range(4):  # what each would explain next
            wanted = 0.0 if g in order else left(order) - left([*order, g])
            assert float(gains[g]) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_columns_of_blocks_of_unequal_size_are_filled_up():
    found = bl.columns_of(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2]))
    assert found.tolist() == [[0, 1, 2, 3, -1, -1], [4, 5, 6, 7, 8, 9], [10, 11, -1, -1, -1, -1]]
    assert bl.columns_of(torch.tensor([1, 0, 1])).tolist() == [[1, -1], [0, 2]]
    assert bl.spans(torch.tensor([2, 0]), 3).tolist() == [6, 7, 8, 0, 1, 2]


def test_idle_inputs_that_fill_up_blocks_change_nothing(rows):
    equations = problem(*rows, ridge=0.01)
    columns = bl.columns_of(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2]))
    gram, cross = bl.padded(equations, columns)
    for count in (3, 2):  # eliminated from all; grown to two and eliminated from these
        order, rises, gains = bl.ranked(gram, cross[:, :1], 6, count)
        assert len(order) == count
        alone = -loss(equations, 0, flat(columns, order[-1:]))
        assert float(rises[-1]) == pytest.approx(alone, rel=1e-3)
        both = -loss(equations, 0, flat(columns, order))
        if (rises.diff() > 0).all():
            assert float(rises.sum()) == pytest.approx(both, rel=1e-3)
        assert not gains[order].any()
        for g in set(range(3)) - set(order.tolist()):
            beside = -loss(equations, 0, flat(columns, [*order.tolist(), g])) - both
            assert float(gains[g]) == pytest.approx(beside, rel=2e-3, abs=1e-3)


def test_rises_of_a_ranking_never_fall(rows):
    equations = problem(*rows, ridge=0.01)
    gram, cross = bl.padded(equations, bl.columns_of(torch.arange(12)))
    for o in range(3):
        _, rises, _ = bl.ranked(gram, cross[:, o : o + 1], 1, 12)
        assert (rises.diff() >= 0).all() and (rises >= 0).all()
