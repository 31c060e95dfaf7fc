"""Information with the class: what estimators are given of units and channels, and what is
refused.
"""

from functools import partial

import branches
import numpy as np
import pytest
import torch
from channels import NETWORKS, filter_cells
from networks import block_cells, layers_of

from mint_cli.criterion.label_information import check, label_information
from mint_cli.errors import SettingError
from mint_cli.estimator.gaussian import gaussian
from mint_cli.estimator.mixture import mixture
from mint_cli.network.layers import inference
from mint_cli.network.units import Joining, find
from mint_cli.protocol import Estimate, Images

MIXTURE = partial(mixture, bandwidth=None, form="left_out")
SETTINGS = {
    "samples_per_class": 8, "batch_size": 7, "maps": "branch", "features": "pooled",
    "dimensions": 3, "estimator": MIXTURE,
}  # fmt: skip


@pytest.fixture
def noise() -> Images:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (60, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.arange(60) % 3)


def scored(model, cells, images, seed=0, **changed):
    rng = np.random.default_rng(seed)
    return label_information(model, cells, images, rng, **SETTINGS | changed)


def given(model, cells, images, **changed):
    """What the estimator is given, site by site."""
    seen = []

    def spy(child, parent, child_groups, parent_groups, rng, /):
        seen.append((child, parent, child_groups))
        count = int(child_groups.max()) + 1
        return Estimate(torch.arange(count).double()[:, None])

    found = scored(model, cells, images, estimator=partial(spy), **changed)
    assert [own.score.tolist() for own in found.values()] == [
        list(range(own.shape[0])) for own in cells.values()
    ]
    return dict(zip(cells, seen, strict=True))


@pytest.mark.parametrize("build", [branches.residual, branches.dense])
@pytest.mark.parametrize("maps", ["branch", "joined"])
def test_features_of_a_unit_are_the_means_of_its_maps_or_of_what_it_joins_into(build, maps, noise):
    model = branches.network(build)
    cells = branches.unit_cells(model, stages=True)
    seen, met = given(model, cells, noise, maps=maps, samples_per_class=20), {}
    units = find(model, branches.PIXELS).units

    def note(number, own, past):
        both = own + past[0] if build is branches.residual else torch.cat([past[0], own], 1)
        met[units[number].name] = (own if maps == "branch" else both).mean((2, 3)).clone()

    with inference(model), Joining(units, note):
        model(noise.pixels.float() / 255)
    for site, own in cells.items():
        features, classes, groups = seen[site]
        assert (
            classes.flatten().tolist() == sorted(classes.flatten().tolist()) and len(classes) == 60
        )
        for number, name in enumerate(own.names):
            wanted = met[name][noise.labels.argsort(stable=True)]
            mine = features[:, groups == number]
            assert mine.shape == wanted.shape
            torch.testing.assert_close(mine.sum(0), wanted.sum(0), rtol=1e-4, atol=1e-4)


def test_projections_are_as_many_as_asked_for_and_the_same_for_all_batches(noise):
    model = branches.network(branches.residual)
    cells = branches.unit_cells(model)
    found = [
        given(model, cells, noise, features="projected", batch_size=size)["units"]
        for size in (7, 60)
    ]
    assert found[0][0].shape == (24, 9) and found[0][2].tolist() == [0] * 3 + [1] * 3 + [2] * 3
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", ["sequential", "concatenated", "flattened", "residual"])
def test_features_of_a_channel_are_what_its_reader_reads_of_it(network, noise):
    model = NETWORKS[network]()
    cells = filter_cells(model)
    seen = given(model, cells, noise)
    for site, own in cells.items():
        features, _, groups = seen[site]
        per_cell = 64 if network == "flattened" else 1
        assert groups.tolist() == [c for c in range(own.shape[0]) for _ in range(per_cell)]
        assert features.isfinite().all() and features.shape == (24, len(groups))


def test_a_unit_that_tells_the_classes_apart_scores_their_entropy_and_one_that_does_not_nothing():
    model = branches.network(branches.residual)
    labels = torch.arange(90) % 2
    pixels = (labels * 200)[:, None, None, None].expand(90, 3, 8, 8).to(torch.uint8)
    cells = branches.unit_cells(model)
    with torch.no_grad():
        model.get_parameter("third.4.weight").zero_()
    found = scored(model, cells, Images(pixels, labels))["units"]
    assert found.score[0] == pytest.approx(np.log(2), abs=1e-3)
    assert found.score[2] == 0 and found.halves[0].shape == (3,)


def test_the_same_seed_gives_the_same_scores(noise):
    model = branches.network(branches.dense)
    cells = branches.unit_cells(model)
    first, again, other = (
        scored(model, cells, noise, seed, features="projected")["units"].score for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"samples_per_class": 3}, "samples_per_class must be at least 4"),
        ({"samples_per_class": 21}, "samples_per_class"),
        ({"maps": "all"}, "maps must be one of branch, joined"),
        ({"features": "means"}, "features must be one of pooled, projected"),
        ({"dimensions": 0}, "dimensions must be at least 1"),
        ({"estimator": partial(gaussian, ridge=0.1, form="information")}, "estimator must measure"),
        ({"estimator": partial(mixture, bandwidth=-1.0, form="upper")}, "estimator.bandwidth must"),
    ],
)
def test_settings_out_of_their_bounds_are_refused_before_any_work(changed, told, noise):
    model = branches.network(branches.residual)
    cells, layers = branches.unit_cells(model), layers_of(model, branches.PIXELS)
    check(layers, cells, noise.labels, **SETTINGS)
    with pytest.raises(SettingError, match=f"^{told}"):
        check(layers, cells, noise.labels, **SETTINGS | changed)


def test_blocks_have_no_feature_maps_of_their_own(noise):
    model = NETWORKS["sequential"]()
    cells, layers = block_cells(model, pixels=branches.PIXELS), layers_of(model, branches.PIXELS)
    with pytest.raises(SettingError, match="^granularity must be units or filters"):
        check(layers, cells, noise.labels, **SETTINGS)
