"""Grid distances: exact in any order, close to the values they round."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mint_cli.kernel.distance import grid, squares


@pytest.mark.parametrize("channels", [1, 30, 4608])
def test_grid_values_are_integers_whose_squared_distances_stay_below_two_to_the_53(
    channels: int,
) -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(20, channels)))
    positions, step = grid(values)
    assert torch.equal(positions, positions.round())
    assert float((2 * positions.abs().max()) ** 2 * channels) <= 2**53
    reach = float((values.amax(0) - values.amin(0)).max())
    assert step <= reach * 2**-19
    centre = (values.amax(0) + values.amin(0)) / 2
    assert float((positions * step - (values - centre)).abs().max()) <= step / 2


def test_distances_do_not_depend_on_the_order_or_blocks_of_channels() -> None:
    rng = np.random.default_rng(1)
    positions, _ = grid(
        torch.from_numpy(rng.normal(size=(30, 100)) * 10.0 ** rng.integers(-4, 4, 100))
    )
    full = squares(positions, positions)
    shuffled = positions[:, torch.from_numpy(rng.permutation(100))]
    assert torch.equal(full, squares(shuffled, shuffled))
    assert torch.equal(
        full - squares(positions[:, :40], positions[:, :40]),
        squares(positions[:, 40:], positions[:, 40:]),
    )
    direct = [[int(((a - b).long() ** 2).sum()) for b in positions] for a in positions]
    assert full.tolist() == direct


def test_duplicates_are_at_distance_zero_and_constant_values_on_a_grid_of_ones() -> None:
    values = torch.tensor([[0.1, 1e6], [0.1, 1e6], [0.3, -7.0]]).double()
    positions, _ = grid(values)
    assert squares(positions, positions)[0].tolist()[:2] == [0, 0]
    positions, step = grid(torch.full((4, 2), 0.7).double())
    assert step == 1 and not positions.any()
