"""Patches read where they lie: against unfolded maps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mint_cli.network.observe import outputs_of, patches_of
from mint_cli.solver import drawn
from mint_cli.solver import equations as eq
from mint_cli.solver.rows import chosen, rows


@pytest.mark.parametrize(
    "settings",
    [{}, {"stride": 2}, {"padding": 1}, {"stride": (1, 2), "padding": (0, 2), "dilation": 2}],
)
def test_moments_of_drawn_positions_are_those_of_unfolded_maps(settings):
    generator = torch.Generator().manual_seed(0)
    module = nn.Conv2d(4, 3, (3, 2), **settings)
    entering = torch.randn(5, 4, 9, 8, generator=generator)
    target = module(entering).detach()
    size = target[0, 0].numel()
    at = torch.rand(5, size, generator=generator).argsort(1)[:, :7]
    weight = torch.rand(35, generator=generator)
    wanted, found = (eq.empty(24, 3, entering.device) for _ in range(2))
    unfolded = chosen(patches_of(module, entering), at), chosen(outputs_of(module, target), at)
    eq.add(wanted, *unfolded, weight)
    eq.add(found, *rows(module, entering, target, at), weight)
    found = eq.reordered(found, drawn.flat_order(module))
    for name in ("inputs", "targets", "cross", "squares", "total"):
        torch.testing.assert_close(
            getattr(found, name), getattr(wanted, name), rtol=1e-5, atol=1e-5
        )
    torch.testing.assert_close(found.gram.tril(), wanted.gram.tril(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "module",
    [nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"), nn.Conv2d(4, 3, 3, padding="same")],
)
def test_other_paddings_are_unfolded(module):
    entering = torch.randn(2, 4, 6, 6)
    target, at = module(entering).detach(), torch.tensor([[0, 17], [35, 5]])
    u, t = rows(module, entering, target, at)
    assert not drawn.readable(module)
    torch.testing.assert_close(
        u @ module.weight.detach().flatten(1).T + module.bias.detach(), t, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("k", [300, 1100])
def test_the_gram_is_the_same_in_parts(k):
    u, t = torch.randn(50, k), torch.randn(50, 2)
    found = eq.empty(k, 2, u.device)
    eq.add(found, u, t, torch.ones(50))
    torch.testing.assert_close(found.gram.tril().float(), (u.T @ u).tril(), rtol=1e-4, atol=1e-4)
