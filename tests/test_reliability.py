"""How far a score can be relied on."""

import pytest
import torch

from mint_cli import reliability as re
from mint_cli.protocol import Estimate


def test_shares_of_variance_are_one_for_a_pure_effect_and_sum_to_one():
    rows, columns = torch.arange(5.0)[:, None].expand(5, 4), torch.arange(4.0)[None].expand(5, 4)
    child, parent = re.variance_shares(rows), re.variance_shares(columns)
    assert child == pytest.approx({"child": 1, "parent": 0, "interaction": 0})
    assert parent == pytest.approx({"child": 0, "parent": 1, "interaction": 0})
    assert sum(re.variance_shares(torch.rand(6, 7)).values()) == pytest.approx(1)


def test_a_checkerboard_is_all_interaction():
    board = (torch.arange(4)[:, None] + torch.arange(4)[None]) % 2
    assert re.variance_shares(board)["interaction"] == pytest.approx(1)


def test_of_single_weights_rows_are_outputs_and_columns_those_of_the_flat_weight():
    score = torch.rand(5, 3, 2, 2)
    assert re.variance_shares(score) == pytest.approx(re.variance_shares(score.flatten(1)))


def test_agreement_is_one_for_the_same_order_and_minus_one_for_the_opposite():
    table = torch.rand(5, 5)
    assert re.agreement(Estimate(table, (table, table.exp()))) == pytest.approx(1)
    assert re.agreement(Estimate(table, (table, -table))) == pytest.approx(-1)


def test_what_is_not_defined_is_none_and_never_nan():
    constant = torch.full((7, 6), 0.1, dtype=torch.float64)  # its computed variance is not 0
    shares = {"child": None, "parent": None, "interaction": None}
    report = re.report(Estimate(constant, (constant, torch.rand(7, 6))))
    assert report == {"agreement": None, **shares, "tied": 1.0, "equal": True}
    assert re.agreement(Estimate(constant)) is None


def test_tied_cells_are_counted_and_equal_ones_told():
    assert re.tied(torch.tensor([[1.0, 1.0], [2.0, 3.0]])) == 0.5
    for score, equal in ((torch.tensor([[1.0, 1.0]]), True), (torch.tensor([[1.0, 2.0]]), False)):
        assert re.report(Estimate(score))["equal"] is equal
    assert re.report(Estimate(torch.ones(1, 1)))["equal"] is False  # one cell: nothing to rank
