"""What channels say where they are read, against values computed by hand."""

import pytest
import torch
from channels import NETWORKS, filter_cells
from networks import seeded
from torch import nn

from mint_cli.criterion import activation_mean, activation_std
from mint_cli.errors import SettingError
from mint_cli.network import maps
from mint_cli.network.layers import inference, record
from mint_cli.protocol import Cells, Images


@pytest.fixture
def model() -> nn.Module:
    """Two channels, of which a linear layer reads 2 × 2 positions each after ReLU."""
    return seeded(
        lambda: nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    )


@pytest.fixture
def images() -> Images:
    pixels = torch.arange(0, 240, 5, dtype=torch.uint8).view(12, 1, 2, 2)
    return Images(pixels, torch.arange(12) % 3)


def seen(model, images):
    """The map of every channel, (images, channels, positions)."""
    with inference(model):
        return torch.relu(model[0](images.pixels.float() / 255)).flatten(2).double()


@pytest.mark.parametrize("batch_size", [12, 5])
def test_sums_run_over_images_and_positions_whatever_the_batches(model, images, batch_size):
    cells, index = filter_cells(model, pixels=(1, 2, 2)), torch.arange(12)
    wanted = seen(model, images)
    count, total = maps.sums(model, cells, images, index, batch_size, activation_mean.totals)["0"]
    assert count.tolist() == [48, 48]
    torch.testing.assert_close(total, wanted.sum((0, 2)), rtol=1e-6, atol=1e-6)
    count, total, square = maps.sums(
        model, cells, images, index, batch_size, activation_std.totals
    )["0"]
    found = activation_std.deviation(total / count, square / count)
    torch.testing.assert_close(found, wanted.std((0, 2), correction=0), rtol=1e-5, atol=1e-7)


def test_image_means_have_a_row_an_image_in_the_order_of_the_index(model, images):
    cells, index = filter_cells(model, pixels=(1, 2, 2)), torch.tensor([7, 0, 3])
    found = maps.image_means(model, cells, images, index, 2)["0"]
    torch.testing.assert_close(found, seen(model, images)[index].mean(2), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NETWORKS)
def test_changes_are_those_of_the_loss_when_a_channel_shrinks_where_it_is_read(name):
    """By finite differences, times the positions of its one reader."""
    model = NETWORKS[name]().double()
    x = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, step = torch.tensor([0, 1, 2]), 1e-6
    cells = filter_cells(model.float())
    layers = record(model, (3, 8, 8))
    model.double()
    read = maps.owners(cells)
    found = maps.changes(model, cells, x, labels)

    def losses():
        with torch.no_grad():
            return nn.functional.cross_entropy(model(x), labels, reduction="none")

    before = losses()
    for site in cells:
        names = [reader for reader, own in read.items() if site in own]
        if len(names) > 1:
            continue
        (reader,) = names
        module, owner = model.get_submodule(reader), read[reader][site]
        for cell in range(cells[site].shape[0]):
            columns, kept = owner == cell, module.weight.detach().clone()
            with torch.no_grad():
                module.weight[:, columns] *= 1 - step
            slope = (before - losses()) / step
            module.weight.data.copy_(kept)
            positions = int(columns.sum()) * layers[reader].positions
            torch.testing.assert_close(
                found[site][:, cell], slope / positions, rtol=1e-3, atol=1e-7
            )


def test_what_two_layers_read_is_summed_over_both():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.made, self.one, self.other = nn.Linear(4, 3), nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x):
            y = self.made(x.flatten(1))
            return self.one(y) + self.other(y)

    model = seeded(Two)
    cells, x, labels = (
        filter_cells(model, pixels=(1, 2, 2)),
        torch.rand(5, 1, 2, 2),
        torch.tensor([0, 1, 0, 1, 1]),
    )
    found = maps.changes(model, cells, x, labels)["made"]
    made = model.made(x.flatten(1)).detach().requires_grad_()
    loss = nn.functional.cross_entropy(model.one(made) + model.other(made), labels, reduction="sum")
    (slope,) = torch.autograd.grad(loss, [made])
    torch.testing.assert_close(found, (slope * made).detach().double(), rtol=1e-5, atol=1e-7)


def test_gradients_are_asked_of_nothing_that_is_the_network_s(model, images):
    cells = filter_cells(model, pixels=(1, 2, 2))
    maps.changes(model, cells, images.pixels.float() / 255, images.labels)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_cells_that_are_no_channels_and_too_many_samples_are_refused(images):
    block = {"fc": Cells((2, 2), {"fc.weight": torch.arange(4).view(2, 2)})}
    units = {"units": Cells((1,), {"fc.weight": torch.zeros(4)}, names=("fc",))}
    for cells in (block, units):
        with pytest.raises(SettingError, match="^granularity must be filters"):
            maps.check({}, cells, images.labels, samples_per_class=1)
    with pytest.raises(SettingError, match="between 1 and 4.*not 5"):
        maps.check({}, {}, images.labels, samples_per_class=5)
