"""First-order change of the loss by cells: by finite differences, in two halves, for frozen
weights.
"""

import numpy as np
import pytest
import torch
from networks import block_cells, weight_cells

from mint_cli.criterion.taylor import check, taylor
from mint_cli.errors import SettingError
from mint_cli.model.mlp import mlp
from mint_cli.network.layers import apply_masks
from mint_cli.protocol import Cells, Images

PIXELS = (1, 6, 6)
CELL = ((0, 0), (3, 1), (4, 3))


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return mlp(PIXELS, 3, hidden=[20, 10], dropout=0.0).eval()


@pytest.fixture
def cells(model):
    return block_cells(model, "fc2", child=5, parent=4, pixels=PIXELS)


def scored(model, cells, images, seed=0, **changed):
    settings = {"samples_per_class": 100, "batch_size": 300, "normalise": False} | changed
    return taylor(model, cells, images, np.random.default_rng(seed), **settings)


def alike(images: Images) -> Images:
    """Ten times one image: both halves see the same gradient."""
    return Images(images.pixels[:1].repeat(10, 1, 1, 1), images.labels[:1].repeat(10))


def test_it_is_the_change_of_the_loss_when_a_cell_shrinks_a_little(model, cells, images):
    same, step = alike(images), 1e-5
    estimate = scored(model, cells, same, samples_per_class=10)["fc2"]
    weight, labels, x = (
        model.fc2.weight,
        cells["fc2"].labels["fc2.weight"],
        same.pixels.double() / 255,
    )
    model.double()

    def loss() -> float:
        return torch.nn.functional.cross_entropy(model(x), same.labels).item()

    base, kept = loss(), weight.detach().clone()
    for c, p in CELL:
        block = labels == c * 4 + p
        weight.data[block] *= 1 - step
        change = abs(loss() - base) / step / int(block.sum())
        weight.data.copy_(kept)
        assert estimate.halves[0][c, p].item() == pytest.approx(change, rel=1e-3, abs=1e-9)
        assert estimate.score[c, p].item() == pytest.approx(change, rel=1e-3, abs=1e-9)


def test_single_weights_score_their_gradient_times_themselves(model, images):
    same = alike(images)
    score = scored(model, weight_cells(model, "fc1", pixels=PIXELS), same, samples_per_class=10)[
        "fc1"
    ].score
    loss = torch.nn.functional.cross_entropy(model(same.pixels.float() / 255), same.labels)
    (gradient,) = torch.autograd.grad(loss, [model.fc1.weight])
    torch.testing.assert_close(score.float(), (gradient * model.fc1.weight).abs().detach())


def test_a_cell_of_several_weights_sums_before_it_takes_the_absolute_value(model, images):
    same, rows = alike(images), torch.arange(10, dtype=torch.int32)
    site = Cells((10,), {"fc2.weight": rows, "fc2.bias": rows, "fc3.weight": rows.expand(3, 10)})
    score = scored(model, {"site": site}, same, samples_per_class=10)["site"].score
    loss = torch.nn.functional.cross_entropy(model(same.pixels.float() / 255), same.labels)
    own, after = model.fc2.weight, model.fc3.weight
    here, there = torch.autograd.grad(loss, [own, after])
    total = (here * own).sum(1) + (there * after).sum(0)
    torch.testing.assert_close(score.float(), total.abs().detach() / 23, rtol=1e-4, atol=1e-8)


def test_the_score_averages_both_halves_which_see_other_images(model, cells, images):
    estimate = scored(model, cells, images)["fc2"]
    first, second = estimate.halves
    torch.testing.assert_close(estimate.score, (first + second) / 2)
    assert not torch.allclose(first, second, rtol=0.01)


def test_either_half_sees_images_of_every_class(model, cells):
    """Images of class 0 are black, so that fc1 has no gradient on a half that sees nothing else."""
    pixels = torch.randint(1, 256, (60, 1, 6, 6), dtype=torch.uint8)
    labels = torch.arange(60) % 2
    pixels[labels == 0] = 0
    found = scored(
        model,
        weight_cells(model, "fc1", pixels=PIXELS),
        Images(pixels, labels),
        samples_per_class=30,
    )
    sizes = [float(half.mean()) for half in found["fc1"].halves]
    assert 0.5 < sizes[0] / sizes[1] < 2


def test_batches_are_averaged_with_the_absolute_value_of_each(model, cells, images):
    """With one image a batch nothing cancels, so that no score falls and most rise."""
    together, alone = (scored(model, cells, images, batch_size=b)["fc2"].score for b in (300, 1))
    assert (alone > 0.9999 * together).all() and float(alone.mean() / together.mean()) > 1.5


def test_normalised_scores_and_halves_have_unit_root_sum_of_squares(model, cells, images):
    plain, found = (scored(model, cells, images, normalise=n)["fc2"] for n in (False, True))
    for part in (found.score, *found.halves):
        assert float(part.square().sum()) == pytest.approx(1)
    torch.testing.assert_close(found.score, plain.score / plain.score.norm())


def test_a_cell_of_zero_weights_scores_zero(model, cells, images):
    mask = torch.ones(10, 20, dtype=torch.bool)
    mask[:2, :5] = False
    apply_masks(model, {"fc2.weight": mask})
    score = scored(model, cells, images)["fc2"].score
    assert score[0, 0] == 0 and (score.flatten()[1:] > 0).all()


def test_frozen_weights_score_as_others_do_and_stay_frozen(model, cells, images):
    wanted = scored(model, cells, images)["fc2"].score
    model.requires_grad_(False)
    assert torch.equal(scored(model, cells, images)["fc2"].score, wanted)
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("count", [0, 101])
def test_more_samples_than_a_class_has_are_refused_before_any_work(images, count):
    with pytest.raises(SettingError, match=f"between 1 and 100.*not {count}"):
        check({}, {}, images.labels, samples_per_class=count, batch_size=10, normalise=False)
