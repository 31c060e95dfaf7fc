"""Finished parts of a long computation are kept, and nothing depends on whether they were."""

import numpy as np
import pytest
import torch

from mint_cli.compensation.refit import refit
from mint_cli.compensation.reselect import reselect
from mint_cli.criterion.elimination import elimination
from mint_cli.granularity.blocks import blocks
from mint_cli.model.mlp import mlp
from mint_cli.network.layers import normalise_inputs, record
from mint_cli.solver.progress import kept_by, once
from mint_cli.solver.rows import Calibration


class Keeper:
    """Keeps parts, and fails once so many were made: a job that is killed."""

    def __init__(self, most: int) -> None:
        self.parts, self.most = {}, most

    def __call__(self, name, make):
        if name not in self.parts:
            if len(self.parts) == self.most:
                raise InterruptedError
            self.parts[name] = {key: value.clone() for key, value in make().items()}
        return dict(self.parts[name])


@pytest.fixture
def setting():
    torch.manual_seed(0)
    model = normalise_inputs(mlp((1, 6, 6), 3, hidden=[12, 8], dropout=0.0), (0.5,), (1.0,)).eval()
    cells = blocks(None, record(model, (1, 6, 6)), child_groups=3, parent_groups=3)
    kept = {site: torch.rand(own.shape) < 0.6 for site, own in cells.items()}
    gone = {site: torch.zeros(own.shape, dtype=torch.bool) for site, own in cells.items()}
    calibration = Calibration(100, 8, 0.5, 0.9, 0.01, 50)
    return model, cells, kept, gone, calibration


def test_without_a_keeper_a_part_is_made():
    assert once("a", lambda: {"x": torch.ones(1)})["x"] == 1


@pytest.mark.parametrize("most", [1, 2])
def test_a_compensation_that_was_cut_off_goes_on_and_ends_as_if_it_had_not_been(
    setting, images, most
):
    model, cells, kept, gone, calibration = setting
    settings = {"calibration": calibration, "inputs": "pruned"}
    for compensation, own in ((refit, {}), (reselect, {"growth": 2.0, "sweeps": 1})):

        def run(compensation=compensation, own=own):
            rng = np.random.default_rng(0)
            return compensation(model, cells, dict(kept), gone, images, rng, **settings, **own)

        whole, keeper = run(), Keeper(most)
        with kept_by(keeper), pytest.raises(InterruptedError):
            run()
        assert len(keeper.parts) == most
        keeper.most = 99
        with kept_by(keeper):
            resumed = run()
        for before, after in zip(whole, resumed, strict=True):
            assert before.keys() == after.keys()
            assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_criterion_that_was_cut_off_goes_on(setting, images):
    model, cells, _, _, calibration = setting
    whole = elimination(
        model, cells, images, np.random.default_rng(0), calibration=calibration, depth=4
    )
    keeper = Keeper(1)
    with kept_by(keeper), pytest.raises(InterruptedError):
        elimination(
            model, cells, images, np.random.default_rng(0), calibration=calibration, depth=4
        )
    keeper.most = 99
    with kept_by(keeper):
        found = elimination(
            model, cells, images, np.random.default_rng(0), calibration=calibration, depth=4
        )
    assert all(torch.equal(found[site].score, whole[site].score) for site in cells)


def test_a_terminal_shows_how_many_layers_are_done_and_nothing_else_does(monkeypatch, capsys):
    def go():
        with kept_by(lambda name, make: make(), 4):
            return [once(name, dict) for name in "abc"]

    assert go() == [{}] * 3 and not capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    go()
    assert "| 0/4 [" in capsys.readouterr().err
