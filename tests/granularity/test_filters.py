"""Whole channels as cells: what belongs to one, what may go, and what cannot and why."""

import pytest
import torch
from channels import NETWORKS, PIXELS, Net, conv, filter_cells, pooled
from networks import seeded
from torch import nn

from mint_cli.errors import SettingError
from mint_cli.granularity.filters import filters
from mint_cli.network.couplings import Recorded
from mint_cli.network.layers import record


def shapes(cells):
    return {site: own.shape for site, own in cells.items()}


@pytest.mark.parametrize(
    ("network", "sites"),
    [
        ("sequential", {"first": (6,), "last": (5,)}),
        ("residual", {"stem": (6,), "inner": (4,)}),
        ("concatenated", {"left": (4,), "right": (5,)}),
        ("flattened", {"first": (4,)}),
        ("depthwise", {"first": (6,), "last": (5,)}),
        ("prelu", {"first": (6,)}),
        ("gated", {"first": (6,), "down": (2,)}),
        ("split", {"first": (8,), "own": (4,)}),
    ],
)
def test_every_channel_that_can_go_is_one_cell_whoever_makes_it(network, sites):
    assert shapes(filter_cells(NETWORKS[network]())) == sites


def test_the_stream_of_a_residual_network_stays_unless_it_is_asked_for():
    assert shapes(filter_cells(NETWORKS["residual"](), residual=False)) == {"inner": (4,)}


def test_a_cell_has_rows_of_its_maker_entries_of_its_norm_and_columns_of_its_reader():
    labels = filter_cells(NETWORKS["sequential"]())["first"].labels
    rows = {f"norm.{kind}" for kind in ("weight", "bias", "running_mean", "running_var")}
    assert set(labels) == rows | {"first.weight", "first.bias", "last.weight"}
    assert all(labels[name].tolist() == [*range(6)] for name in labels if name != "last.weight")
    assert labels["last.weight"].tolist() == [[*range(6)]] * 5


def test_both_makers_of_a_sum_and_all_its_readers_belong_to_the_cell():
    labels = filter_cells(NETWORKS["residual"]())["stem"].labels
    assert {n for n in labels if n.endswith("weight")} == {
        "stem.weight", "outer.weight", "inner.weight", "out.weight",
    }  # fmt: skip


def test_what_others_bring_to_a_concatenation_has_no_label():
    labels = filter_cells(NETWORKS["concatenated"]())["right"].labels
    assert labels["norm.weight"].tolist() == [-1] * 4 + [0, 1, 2, 3, 4]
    assert labels["out.weight"][0].tolist() == [-1] * 4 + [0, 1, 2, 3, 4]


def grouped():
    return Net(
        lambda m, x: m.out(pooled(m.after(m.last(torch.relu(m.mid(m.first(x))))))),
        first=conv(3, 4), mid=conv(4, 4, groups=2), last=conv(4, 5), after=conv(5, 6),
        out=nn.Linear(6, 3),
    )  # fmt: skip


def test_a_grouped_convolution_fixes_what_it_reads_and_what_it_makes():
    assert shapes(filter_cells(seeded(grouped))) == {"last": (5,), "after": (6,)}


def test_skipped_layers_keep_their_channels():
    model = NETWORKS["sequential"]()
    layers = {name: x for name, x in record(model, PIXELS).items() if name != "first"}
    assert shapes(filters(Recorded(model, PIXELS), layers, residual=True)) == {"last": (5,)}


def test_a_network_without_a_channel_that_can_go_is_refused_with_reasons():
    model = seeded(lambda: Net(lambda m, x: m.out(pooled(x)), out=nn.Linear(3, 3)))
    with pytest.raises(
        SettingError, match="^skip leaves no channel that can go as a whole"
    ) as told:
        filter_cells(model)
    assert "the images: they are the images" in str(told.value)
    assert "out: its channels are the network's outputs" in str(told.value)


def test_channels_of_a_layer_that_is_called_twice_stay():
    model = seeded(
        lambda: Net(
            lambda m, x: m.out(pooled(m.last(torch.relu(m.again(torch.relu(m.again(x))))))),
            again=conv(3, 3), last=conv(3, 5), out=nn.Linear(5, 3),
        )
    )  # fmt: skip
    assert shapes(filter_cells(model)) == {"last": (5,)}


def test_channels_of_a_layer_that_reads_what_it_adds_to_stay():
    """A weight between two of them would belong to both."""
    model = seeded(
        lambda: Net(
            lambda m, x: m.out(pooled((lambda y: y + m.own(y))(torch.relu(m.first(x))))),
            first=conv(3, 4), own=conv(4, 4), out=nn.Linear(4, 3),
        )
    )  # fmt: skip
    with pytest.raises(SettingError, match="skip leaves no channel that can go as a whole"):
        filter_cells(model)
