"""Networks of torchvision, smaller by half of their channels: the same outputs as with zeros."""

import pytest
import torch
from channels import images, some, varied
from networks import seeded
from torch import nn

from mint_cli.granularity.filters import filters
from mint_cli.network.cells import masks_of
from mint_cli.network.couplings import Recorded
from mint_cli.network.layers import apply_masks, record
from mint_cli.network.surgery import difference
from mint_cli.stage.shrink import EXACT, smaller

models = pytest.importorskip("torchvision.models")

SMALLEST = {  # pixels a side that they accept
    "alexnet": 63,
    "vgg16_bn": 32,
    "resnet18": 32,
    "resnet50": 32,
    "densenet121": 32,
    "mobilenet_v2": 32,
    "efficientnet_b0": 32,
    "googlenet": 15,
    "convnext_tiny": 32,
}
SETTINGS = {"googlenet": {"aux_logits": False, "init_weights": False}}


def thin(model: nn.Module) -> nn.Module:
    """The network with few units in its classifier, whose hidden layers hold most weights."""
    layers = [name for name, m in model.classifier.named_children() if isinstance(m, nn.Linear)]
    entering = model.classifier.get_submodule(layers[0]).in_features
    for name, leaving in zip(layers, (32, 24, 10), strict=True):
        setattr(model.classifier, name, nn.Linear(entering, leaving))
        entering = leaving
    return model


def network(name: str) -> nn.Module:
    def build():
        with torch.device("meta"):
            model = getattr(models, name)(num_classes=10, **SETTINGS.get(name, {}))
        model = thin(model) if name in ("alexnet", "vgg16_bn") else model
        model.to_empty(device="cpu")
        for m in model.modules():
            if hasattr(m, "reset_parameters"):
                m.reset_parameters()
            elif "layer_scale" in dict(m.named_parameters(recurse=False)):
                nn.init.ones_(m.layer_scale)
        return varied(model)

    return seeded(build)


def cells_of(model: nn.Module, pixels: tuple[int, ...]):
    layers = {name: layer for name, layer in record(model, pixels).items() if not layer.refusals}
    return filters(Recorded(model, pixels), layers, residual=True)


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smaller_network_gives_the_masked_ones_outputs(name):
    model, pixels = network(name), (3, SMALLEST[name], SMALLEST[name])
    cells = cells_of(model, pixels)
    kept = some(cells, 1, 0.5)
    parameters = dict(model.named_parameters())
    apply_masks(model, {n: m for n, m in masks_of(cells, kept).items() if n in parameters})
    small, lost = smaller(model, Recorded(model, pixels), images(4, pixels))
    assert difference(model, small, images(3, pixels, seed=4)) <= EXACT
    before, after = (sum(p.numel() for p in m.parameters()) for m in (model, small))
    assert after < (0.6 if name == "convnext_tiny" else 0.35) * before
    fewest = {site: int(own.sum()) for site, own in kept.items()}
    assert all(int(lost[f"rows/{site}"].sum()) <= count for site, count in fewest.items())


def members(cells, cell: int) -> set[tuple[str, str, int]]:
    """Rows and columns of layers and norms that belong to a cell of ours."""
    found = set()
    for name, labels in cells.labels.items():
        module, _, kind = name.rpartition(".")
        if kind == "weight":
            own = labels if labels.ndim == 1 else labels[0]
            side = "out" if labels.ndim == 1 else "in"
            found |= {(module, side, int(i)) for i in (own == cell).nonzero()[:, 0]}
    return found


def told(tp, group, names) -> set[tuple[str, str, int]]:
    """Rows and columns of layers and norms in a group of torch-pruning's."""
    found = set()
    for dependency, indices in group:
        module = dependency.target.module
        if module in names and isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            plain = not (isinstance(module, nn.Conv2d) and module.groups > 1)
            reading = (tp.prune_conv_in_channels, tp.prune_linear_in_channels)
            side = "in" if plain and dependency.handler in reading else "out"
            found |= {(names[module], side, int(i)) for i in indices}
    return found


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "alexnet", "densenet121"])
def test_what_goes_with_a_channel_is_what_torch_pruning_finds(name):
    tp = pytest.importorskip("torch_pruning")
    model, pixels = network(name), (3, SMALLEST[name], SMALLEST[name])
    cells = cells_of(model, pixels)
    graph = tp.DependencyGraph().build_dependency(model, images(1, pixels))
    names = {m: n for n, m in model.named_modules()}
    for site in [*cells][:: max(1, len(cells) // 12)]:
        module = model.get_submodule(site)
        rows = cells[site].labels[f"{site}.weight"]
        row = int((rows >= 0).nonzero()[-1, 0])
        kind = "linear" if isinstance(module, nn.Linear) else "conv"
        group = graph.get_pruning_group(module, getattr(tp, f"prune_{kind}_out_channels"), [row])
        assert told(tp, group, names) == members(cells[site], int(rows[row])), site
