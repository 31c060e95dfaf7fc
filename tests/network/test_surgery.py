"""Channels taken out physically: smaller weights, the outputs of the masked network."""

import pytest
import torch
from channelled import BUILDS, PIXELS, built
from torch import nn

from mint_cli.granularity.filters import filters
from mint_cli.network.cells import masks_of
from mint_cli.network.couplings import Recorded
from mint_cli.network.layers import apply_masks, record
from mint_cli.network.surgery import difference, indices, shrink


def cells_of(model: nn.Module):
    layers = {n: x for n, x in record(model, PIXELS).items() if not x.refusals}
    return filters(Recorded(model, PIXELS), layers, residual=True)


def some_kept(cells, seed: int):
    generator = torch.Generator().manual_seed(seed)
    kept = {site: torch.rand(own.shape, generator=generator) < 0.6 for site, own in cells.items()}
    for own in kept.values():
        own[0] = True
    return kept


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", BUILDS)
def test_a_smaller_network_gives_what_the_masked_one_gives(name, seed):
    model = built(name)
    cells = cells_of(model)
    kept = some_kept(cells, seed)
    small = shrink(model, cells, kept)
    parameters = dict(model.named_parameters())
    apply_masks(model, {n: m for n, m in masks_of(cells, kept).items() if n in parameters})
    x = torch.rand(5, *PIXELS)
    with torch.no_grad():
        torch.testing.assert_close(small(x), model(x), rtol=1e-5, atol=1e-6)
    assert difference(model, small, x) < 1e-5
    before, after = (sum(p.numel() for p in m.parameters()) for m in (model, small))
    assert after < before and all(own.sum() > 0 for own in kept.values())


@pytest.mark.parametrize("name", BUILDS)
def test_modules_of_a_smaller_network_know_their_own_sizes(name):
    model = built(name)
    cells = cells_of(model)
    small = shrink(model, cells, some_kept(cells, 0))
    for m in small.modules():
        if isinstance(m, nn.Conv2d):
            assert m.weight.shape[:2] == (m.out_channels, m.in_channels // m.groups)
        elif isinstance(m, nn.Linear):
            assert m.weight.shape == (m.out_features, m.in_features)
        elif isinstance(m, nn.BatchNorm2d):
            assert len(m.weight) == len(m.running_var) == m.num_features
        elif isinstance(m, nn.PReLU):
            assert len(m.weight) == m.num_parameters


def test_a_smaller_network_is_a_copy_and_trains():
    model = built("Added")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cells = cells_of(model)
    small = shrink(model, cells, some_kept(cells, 1)).train()
    small(torch.rand(4, *PIXELS)).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in small.parameters())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_frozen_parameters_stay_frozen():
    model = built("Chain")
    model.a.weight.requires_grad_(False)
    cells = cells_of(model)
    small = shrink(model, cells, some_kept(cells, 1))
    assert not small.a.weight.requires_grad and small.b.weight.requires_grad


def test_indices_are_rows_of_makers_and_norms_and_columns_of_readers():
    model = built("Chain")
    cells = cells_of(model)
    kept = {site: torch.ones(own.shape, dtype=torch.bool) for site, own in cells.items()}
    kept["a"][2] = False
    rows, columns = indices(cells, kept)
    gone = [True, True, False, True, True, True]
    assert rows["a"].tolist() == rows["norm"].tolist() == rows["act"].tolist() == gone
    assert columns["b"].tolist() == gone and rows["b"].all() and columns["c"].all()


def test_a_difference_is_the_largest_relative_to_the_largest_logit():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    x = torch.rand(4, 2)
    with torch.no_grad():
        wanted = (first(x) - second(x)).abs().max() / first(x).abs().max()
    assert difference(first, second, x) == pytest.approx(float(wanted))
    assert difference(first, first, x) == 0.0
