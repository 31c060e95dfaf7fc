"""Elimination as a criterion: what carries nothing scores least, scores compare layers."""

import branches
import numpy as np
import pytest
import torch
from networks import block_cells, channel_cells, layers_of, seeded, weight_cells
from torch import nn

from mint_cli.criterion.elimination import check, elimination
from mint_cli.errors import SettingError
from mint_cli.network.layers import record
from mint_cli.protocol import Cells, Images, Layer
from mint_cli.solver.rows import Calibration

SETTINGS = {
    "images": 200,
    "positions": 16,
    "measured": 0.5,
    "joint": 0.9,
    "ridge": 1e-3,
    "batch_size": 50,
}


@pytest.fixture
def model() -> nn.Module:
    network = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(216, 3),
        )
    )
    with torch.no_grad():
        network[2].weight[:, 1] = 0.0  # nothing listens to channel 1
        network[0].weight[3:5] = network[0].weight[3].abs()  # channels 3 and 4 say the same
        network[0].bias[3:5] = -0.5
    return network


@pytest.fixture
def images() -> Images:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (200, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.arange(200) % 3)


def scored(model, images, cells=None, depth=100, seed=0, **changed):
    cells = cells or block_cells(model, "0", "2")
    settings = {"calibration": Calibration(**SETTINGS | changed), "depth": depth}
    return elimination(model, cells, images, np.random.default_rng(seed), **settings)


def test_a_channel_that_nothing_listens_to_and_one_of_two_twins_are_worth_nothing(model, images):
    score = scored(model, images)["2"].score
    for row in score:
        lesser, greater = row[[3, 4]].sort().values
        assert row[1] < 0.01 * row.mean() and lesser < 0.05 * greater


def test_scores_are_in_squared_logits_so_that_they_compare_layers(model, images):
    before = scored(model, images)
    with torch.no_grad():
        model[5].weight *= 2
    for name, estimate in scored(model, images).items():
        wanted = 4 * before[name].score
        torch.testing.assert_close(estimate.score, wanted, rtol=1e-4, atol=1e-9)
        assert (estimate.score >= 0).all()


def test_scores_are_per_weight_so_that_they_compare_cells_of_any_size(model, images):
    """The last cell to go carries all the energy; so does the only one, of six times the
    weights.
    """
    whole = scored(model, images, block_cells(model, "2", child=1, parent=1), depth=54)["2"].score
    total = scored(model, images, block_cells(model, "2", child=1), depth=54)["2"].score
    torch.testing.assert_close(whole[0, 0] * 6, total.max(), rtol=0.05, atol=0)


def test_cells_are_scored_in_the_shape_of_their_site(model, images):
    cells = block_cells(model, "0", "2", child={"default": 2}, parent={"default": 4, "0": 1})
    found = scored(model, images, cells, depth=36)
    assert found["2"].score.shape == (2, 4) and found["0"].score.shape == (2, 1)
    single = scored(model, images, weight_cells(model, "0"), depth=9)["0"].score
    assert single.shape == (6, 1, 3, 3) and (single > 0).all()


def test_below_the_depth_cells_are_not_tied_but_score_by_what_they_would_explain(model, images):
    """Depth 27 ranks three channels of six in every row; a channel that explains nothing is
    last.
    """
    for row in scored(model, images, depth=27)["2"].score:
        assert len(row.unique()) == 6 and row[1] == row.min()
        assert (row[[0, 2, 5]] > 0).all() and row[[3, 4]].max() > 0


def test_a_depth_that_no_cell_fills_is_rounded_up_to_a_cell(model, images):
    """Twelve inputs are a channel of nine and a third of the next: two channels are ranked."""
    found = [scored(model, images, depth=d)["2"].score for d in (10, 12, 18)]
    assert torch.equal(found[0], found[2]) and torch.equal(found[1], found[2])
    assert not torch.equal(found[2], scored(model, images, depth=9)["2"].score)


def test_the_generator_chooses_the_images_and_positions(model, images):
    first, again, other = (scored(model, images, seed=s)["2"].score for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.allclose(first, other, rtol=1e-3)


class Read(nn.Module):
    """Channels that two layers read; of channel 1 neither makes anything, channel 2 only the
    second.
    """

    def __init__(self) -> None:
        super().__init__()
        self.made, self.one = nn.Conv2d(1, 5, 3, padding=1), nn.Conv2d(5, 4, 3, padding=1)
        self.two, self.out = nn.Conv2d(5, 4, 1), nn.Linear(4, 3)
        with torch.no_grad():
            self.one.weight[:, 1:3] = 0.0
            self.two.weight[:, 1] = 0.0
            self.two.weight[:, 2] *= 3

    def forward(self, x):
        x = self.made(x).relu()
        return self.out((self.one(x) + self.two(x)).relu().mean((2, 3)))


def test_whole_channels_are_judged_by_all_layers_that_read_them(images):
    model = seeded(Read)
    score = scored(model, images, channel_cells(model))["made"].score
    assert score.shape == (5,) and score[1] < 0.01 * score.mean()
    assert score[2] > 10 * score[1] and (score >= 0).all()


def checked(layers, cells, count=300, depth=100, **changed):
    calibration = Calibration(**SETTINGS | changed)
    check(layers, cells, torch.zeros(count), calibration=calibration, depth=depth)


def test_what_it_can_do_passes_its_check(model):
    layers = layers_of(model)
    checked(layers, block_cells(model, "0", "2"))
    checked(layers, weight_cells(model), images=216)


def test_a_depth_of_nothing_and_more_images_than_there_are_are_refused(model):
    with pytest.raises(SettingError, match="^depth must be at least 1, not 0"):
        checked(layers_of(model), block_cells(model, "0"), depth=0)
    with pytest.raises(SettingError, match="^calibration.images must lie between 1 and 150"):
        checked(layers_of(model), block_cells(model), count=150)


def test_fewer_rows_than_inputs_are_refused_with_the_images_that_the_worst_layer_needs():
    shapes = {"early": (8, 400, 3, 3), "late": (8, 600, 3, 3)}
    layers = {name: Layer(name, "Conv2d", shape, 4, 1) for name, shape in shapes.items()}
    labels = {n: torch.arange(8 * s[1], dtype=torch.int32).view(8, s[1]) for n, s in shapes.items()}
    cells = {n: Cells(shapes[n][:2], {f"{n}.weight": own}) for n, own in labels.items()}
    wanted = "calibration.images must be at least 1350, not 200; "
    wanted += "layer late is solved for 5400 unknowns .* only 800 rows"
    with pytest.raises(SettingError, match=wanted):
        checked(layers, cells)
    checked(layers, cells, count=1350, images=1350)


def test_layers_that_it_cannot_see_are_refused_by_name():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(64, 3)
    )
    with pytest.raises(
        SettingError, match="^skip must leave alone 1; .* re-solved: it is a grouped"
    ):
        checked(record(model, (1, 8, 8)), block_cells(model))


def test_cells_that_are_no_pairs_of_outputs_and_inputs_are_refused(model):
    odd = torch.zeros(6, 6, dtype=torch.int32)
    odd[0, 1] = odd[1, 0] = 1  # not all pairs of two sets
    with pytest.raises(
        SettingError, match="granularity must cut the weight of 2.weight into pairs"
    ):
        checked(layers_of(model), {"2": Cells((2, 1), {"2.weight": odd})})


def test_a_unit_scores_what_the_logits_lose_with_it_and_one_that_adds_nothing_nothing():
    model = branches.network(branches.residual)
    with torch.no_grad():
        model.get_parameter("second.4.weight").zero_()
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (200, 3, 8, 8), generator=generator, dtype=torch.uint8)
    cells = branches.unit_cells(model, stages=True)
    found = scored(model, Images(pixels, torch.arange(200) % 3), cells)
    first, others = found["units1"].score, found["units2"].score
    assert first.shape == (1,) and others[0] < 1e-6 * others[1] and first > 0
    settings = {"calibration": Calibration(**SETTINGS), "depth": 1}
    check(layers_of(model, branches.PIXELS), cells, torch.arange(200) % 3, **settings)
