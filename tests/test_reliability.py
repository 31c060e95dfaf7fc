import pytest
import torch

from mint_cli import signal
from mint_cli.protocol import Estimate


def test_shares_of_variance_are_one_for_a_pure_effect_and_sum_to_one():
    rows, columns = torch.arange(5.0)[:, None].expand(5, 4), torch.arange(4.0)[None].expand(5, 4)
    assert signal.variance_shares(rows) == pytest.approx({"child": 1, "parent": 0, "interaction": 0})
    assert signal.variance_shares(columns) == pytest.approx({"child": 0, "parent": 1, "interaction": 0})
    assert sum(signal.variance_shares(torch.rand(6, 7)).values()) == pytest.approx(1)


def test_a_checkerboard_is_all_interaction():
    board = (torch.arange(4)[:, None] + torch.arange(4)[None]) % 2
    assert signal.variance_shares(board)["interaction"] == pytest.approx(1)


def test_agreement_is_one_for_the_same_order_and_minus_one_for_the_opposite():
    table = torch.rand(5, 5)
    assert signal.agreement(Estimate(table, (table, table.exp()))) == pytest.approx(1)
    assert signal.agreement(Estimate(table, (table, -table))) == pytest.approx(-1)


def test_what_is_not_defined_is_none_and_never_nan():
    constant = torch.full((7, 6), 0.1, dtype=torch.float64)  # its computed variance is a rounding error, not 0
    report = signal.report(Estimate(constant, (constant, torch.rand(7, 6))))
    assert report == {"agreement": None, "child": None, "parent": None, "interaction": None, "tied": 1.0}
    assert signal.agreement(Estimate(constant)) is None


def test_tied_cells_are_counted():
    assert signal.tied(torch.tensor([[1.0, 1.0], [2.0, 3.0]])) == 0.5
