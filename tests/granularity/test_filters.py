"""Whole channels: cells are what the couplings say, and what must stay is left out with the reason."""

import pytest
import torch
from channelled import PIXELS, SelfReading, built
from networks import seeded
from torch import nn

from mint_cli.errors import SettingError
from mint_cli.granularity.filters import filters
from mint_cli.network.couplings import Recorded
from mint_cli.network.layers import prunable_layers, record


def cells_of(model, residual=True, skip=()):
    layers = prunable_layers(record(model, PIXELS), list(skip))
    return filters(Recorded(model, PIXELS), layers, residual=residual)


def test_a_cell_is_a_channel_with_all_that_makes_norms_and_reads_it():
    cells = cells_of(built("Chain"))
    assert {site: own.shape for site, own in cells.items()} == {"a": (6,), "b": (5,), "c": (7,)}
    rows = list(range(6))
    a = {name: labels for name, labels in cells["a"].labels.items()}
    made = ["a.weight", "a.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"]
    assert set(a) == {*made, "act.weight", "b.weight"}
    assert all(a[name].tolist() == rows for name in (*made, "act.weight"))
    assert a["b.weight"].tolist() == [rows] * 5 and a["b.weight"].dtype == torch.int32
    assert cells["b"].labels["c.weight"].tolist() == [[c for c in range(5) for _ in range(4)]] * 7
    assert "b.bias" not in cells["b"].labels  # there is none


def test_joined_channels_are_cells_of_their_makers_side_by_side():
    cells = cells_of(built("Joined"))
    assert {site: own.shape for site, own in cells.items()} == {"a": (4,), "b": (3,), "c": (5,)}
    assert cells["a"].labels["c.weight"][0].tolist() == [0, 1, 2, 3, -1, -1, -1]
    assert cells["b"].labels["norm.weight"].tolist() == [-1] * 4 + [0, 1, 2]


def test_channels_that_are_added_are_one_cell_and_go_only_on_request():
    assert set(cells_of(built("Added"), residual=False)) == {"a", "c"}
    cells = cells_of(built("Added"))
    assert set(cells) == {"stem", "a", "c", "short"} or set(cells) == {"stem", "a", "c", "d"}
    stream = cells["stem"].labels
    assert stream["stem.weight"].tolist() == stream["b.weight"].tolist() == [0, 1, 2, 3]
    for reader in ("a", "c", "short"):
        assert stream[f"{reader}.weight"][0].tolist() == [0, 1, 2, 3]


def test_depthwise_convolutions_lose_the_rows_of_what_enters_them():
    cells = cells_of(built("Depthwise"))
    own = cells["a"].labels
    assert own["depth.weight"].ndim == 1 and own["depth.bias"].tolist() == list(range(6))
    assert own["up.weight"].tolist() == list(range(6))  # its product with them


def test_skipped_layers_and_the_last_one_keep_their_channels():
    assert set(cells_of(built("Chain"), skip=["b"])) == {"a", "c"}
    assert "out" not in cells_of(built("Chain"))


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 1, groups=2), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.b(self.a(x)).relu().mean((2, 3)))


def test_what_a_grouped_convolution_reads_stays():
    assert set(cells_of(seeded(Grouped))) == {"b"}


def test_where_no_channel_can_go_the_reasons_are_told():
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 3))
    with pytest.raises(SettingError, match="^skip leaves no channel that can go as a whole; .*outputs"):
        cells_of(model)
    with pytest.raises(SettingError, match="granularity.residual"):
        cells_of(seeded(SelfReading), residual=False)


def test_channels_of_a_layer_that_reads_what_it_adds_to_stay():
    """A weight between two of them would belong to both."""
    with pytest.raises(SettingError, match="^skip leaves no channel .*read the channels that they add to"):
        cells_of(seeded(SelfReading))


def test_labels_of_a_site_name_every_cell_and_no_other():
    for name in ("Chain", "Joined", "Added", "Depthwise", "Tokens"):
        for own in cells_of(built(name)).values():
            for labels in own.labels.values():
                found = set(labels.flatten().tolist()) - {-1}
                assert found == set(range(own.shape[0]))
