import numpy as np
import pytest
import torch

from mint_cli.criterion.taylor import taylor
from mint_cli.model.mlp import mlp
from mint_cli.network.layers import apply_masks, weighted_layers
from mint_cli.protocol import Images


@pytest.fixture
def model():
    torch.manual_seed(0)
    return mlp((1, 6, 6), 3, hidden=[20, 10], dropout=0.0).eval()


def scores(model, images, **settings):
    full = {"samples_per_class": 100, "batch_size": 300, "child_groups": 5, "parent_groups": 4, "normalise": False} | settings
    return taylor(model, ["fc2"], images, np.random.default_rng(0), **full)["fc2"]


def test_it_is_the_change_of_the_loss_when_a_block_shrinks_a_little(model, images):
    alike = Images(images.pixels[:1].repeat(10, 1, 1, 1), images.labels[:1].repeat(10))  # both halves see the same gradient
    estimate, step = scores(model, alike, samples_per_class=10), 1e-5
    weight, x = weighted_layers(model)["fc2"].weight, alike.pixels.double() / 255
    model.double()
    base = torch.nn.functional.cross_entropy(model(x), alike.labels).item()
    for c, p in ((0, 0), (3, 1), (4, 3)):
        block = (estimate.child_groups == c)[:, None] & (estimate.parent_groups == p)[None]
        kept = weight.detach().clone()
        weight.data[block] *= 1 - step
        change = abs(torch.nn.functional.cross_entropy(model(x), alike.labels).item() - base) / step / int(block.sum())
        weight.data.copy_(kept)
        assert estimate.halves[0][c, p].item() == pytest.approx(change, rel=1e-3, abs=1e-9)
        assert estimate.score[c, p].item() == pytest.approx(change, rel=1e-3, abs=1e-9)


def test_a_block_of_zero_weights_scores_zero(model, images):
    mask = torch.ones(10, 20, dtype=torch.bool)
    mask[:2, :5] = False
    apply_masks(model, {"fc2": mask})
    estimate = scores(model, images)
    assert estimate.score[0, 0] == 0 and (estimate.score.flatten()[1:] > 0).all()
