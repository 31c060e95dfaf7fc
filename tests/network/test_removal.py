"""Losses without single channels are those of the network in which prune has masked them."""

from copy import deepcopy

import pytest
import torch
from channels import NETWORKS, Net, conv, filter_cells, images, pooled
from networks import seeded
from torch import nn

from mint_cli.errors import DataError
from mint_cli.model.resnet_cifar import resnet_cifar
from mint_cli.network.cells import masks_of
from mint_cli.network.layers import apply_masks, inference, weighted_layers
from mint_cli.network.removal import Removals, judged
from mint_cli.network.surgery import shrink

LABELS = torch.tensor([0, 1, 2, 1, 0])


def kept_but(cells, site, cell):
    kept = {name: torch.ones(own.shape, dtype=torch.bool) for name, own in cells.items()}
    kept[site][cell] = False
    return kept


def masked(model, cells, site, cell):
    """The network without one channel, as the stage prune leaves it."""
    left, parameters = deepcopy(model), dict(model.named_parameters())
    masks = masks_of(cells, kept_but(cells, site, cell))
    apply_masks(left, {name: mask for name, mask in masks.items() if name in parameters})
    return left


def agree(model, x, labels, cells, chosen=slice(None)):
    """Compare every channel of every site with the masked network run from the pixels."""
    removals = Removals(model, cells, x, labels, 3)
    for site in removals.in_order():
        losses, right = removals.without(site)
        for cell in range(cells[site].shape[0])[chosen]:
            with inference(model):
                wanted, answers = judged(masked(model, cells, site, cell)(x), labels)
            torch.testing.assert_close(losses[cell], wanted, rtol=0, atol=1e-5)
            assert torch.equal(right[cell], answers), (site, cell)


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_losses_are_those_of_the_whole_network_run_for_each_masked_channel(build):
    model = build()
    agree(model, images(5), LABELS, filter_cells(model))


def test_activations_in_place_change_nothing():
    def build():
        layers = [conv(3, 6), nn.ReLU(inplace=True), conv(6, 5), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(320, 3))

    model = seeded(build)
    agree(model, images(5), LABELS, filter_cells(model))


def test_tied_channels_of_resnet56_are_removed_wherever_they_are_read_and_the_rest_runs():
    model = seeded(lambda: resnet_cifar((3, 32, 32), 10, depth=56, bottleneck=False))
    cells = filter_cells(model)
    site = next(name for name, own in cells.items() if len(own.labels) > 50)
    x, labels = images(1), torch.tensor([3])
    agree(model, x, labels, {site: cells[site]}, slice(0, None, 20))
    small = shrink(model, cells, kept_but(cells, site, 0))
    with inference(small):
        found, _ = judged(small(x), labels)
    losses, _ = Removals(model, {site: cells[site]}, x, labels, 3).without(site)
    torch.testing.assert_close(losses[0], found, rtol=0, atol=1e-5)


def twins() -> nn.Module:
    """Nothing reads channel 1; channels 2 and 3 are one channel twice, read alike."""

    def build() -> nn.Module:
        layers = [conv(3, 5), nn.ReLU(), conv(5, 4), nn.ReLU(), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(256, 3))

    model = seeded(build)
    with torch.no_grad():
        first, second = model[0], model[2]
        second.weight[:, 1] = 0.0
        first.weight[3], first.bias[3] = first.weight[2], first.bias[2]
        second.weight[:, 3] = second.weight[:, 2]
    return model


def test_a_channel_that_nothing_reads_costs_nothing_and_twins_cost_the_same():
    model = twins()
    removals = Removals(model, filter_cells(model), images(5), LABELS, 2)
    losses, _ = removals.without("0")
    dense, _ = removals.dense()
    torch.testing.assert_close(losses[1], dense, rtol=0, atol=1e-6)
    torch.testing.assert_close(losses[2], losses[3], rtol=0, atol=1e-6)
    assert (losses[[0, 2, 4]] - dense).abs().max() > 1e-3


def test_a_channel_that_is_0_on_all_images_costs_no_pass_and_exactly_nothing():
    model = twins()
    with torch.no_grad():
        model[0].weight[0], model[0].bias[0] = 0.0, -1.0
    removals, passes = Removals(model, filter_cells(model), images(5), LABELS, 1), []
    removals.walk.logits = lambda *given, own=removals.walk.logits: passes.append(1) or own(*given)
    losses, _ = removals.without("0")
    assert torch.equal(losses[0], removals.dense()[0]) and len(passes) == 4


def test_layers_before_the_first_reader_and_itself_are_not_run_again_for_every_channel():
    model = twins()
    removals, ran = Removals(model, filter_cells(model), images(5), LABELS, 2), []
    for name, module in weighted_layers(model).items():

        def note(m, args, output, name=name):
            with torch._C.DisableTorchFunction():
                if output.device.type == "cpu" and output.sum() != 0:
                    ran.append(name)

        module.register_forward_hook(note)
    removals.without("2")
    assert ran.count("0") <= 2 and ran.count("5") >= 3  # once dense, once for the cut


def test_every_channel_is_noted_once():
    model, noted = twins(), []
    Removals(model, filter_cells(model), images(5), LABELS, 2).without("0", noted.append)
    assert sum(noted) == 5


def test_a_network_that_reads_numbers_out_of_its_tensors_is_refused():
    def forward(m, x):
        y = torch.relu(m.first(x))
        return m.out(pooled(y / y.max().item()))

    model = seeded(lambda: Net(forward, first=conv(3, 4), out=nn.Linear(4, 3)))
    plain = Net(lambda m, x: m.out(pooled(m.first(x))), first=conv(3, 4), out=nn.Linear(4, 3))
    cells = filter_cells(plain.eval())
    with pytest.raises(DataError, match="reads numbers out of its tensors"):
        Removals(model, cells, images(5), LABELS, 2).in_order()


def test_a_reader_that_is_no_single_call_is_refused_by_its_name():
    model = seeded(
        lambda: nn.Sequential(
            conv(3, 4),
            nn.ReLU(),
            conv(4, 4, padding_mode="circular"),
            nn.Flatten(),
            nn.Linear(256, 3),
        )
    )
    with pytest.raises(DataError, match="layer 2 reads cannot be removed one by one"):
        Removals(model, filter_cells(model), images(5), LABELS, 2).in_order()
