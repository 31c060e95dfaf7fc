"""The criterion that hands an estimator the samples of every layer."""

from functools import partial

import branches
import numpy as np
import pytest
import torch
from channels import NETWORKS, PIXELS, filter_cells
from networks import block_cells, layers_of, seeded, weight_cells
from torch import nn

from mint_cli.criterion.conditional_information import check, conditional_information, of_channels
from mint_cli.errors import DataError, SettingError
from mint_cli.estimator.gaussian import gaussian
from mint_cli.model.lenet5 import lenet5
from mint_cli.network.layers import normalise_inputs, record
from mint_cli.protocol import Estimate, Images, checked_by

GREY = (1, 28, 28)


@pytest.fixture
def grey():
    pixels = torch.randint(0, 256, (80, 1, 28, 28), dtype=torch.uint8)
    return Images(pixels, torch.arange(80) % 10)


@pytest.fixture
def model():
    return normalise_inputs(seeded(lambda: lenet5(GREY, 10)), (0.0,), (1.0,)).eval()


@pytest.fixture
def cells(model):
    return block_cells(model, "conv2", child=5, parent=3, pixels=GREY)


def estimated(model, cells, images, estimator, features="means"):
    settings = {"samples_per_class": 4, "features": features, "estimator": partial(estimator)}
    return conditional_information(model, cells, images, np.random.default_rng(0), **settings)


@pytest.mark.parametrize(("features", "columns"), [("means", 6), ("patches", 150)])
def test_the_estimator_gets_paired_samples_and_the_group_of_every_column(
    model, cells, grey, features, columns
):
    seen = {}

    def spy(child, parent, child_groups, parent_groups, rng, /):
        seen["shapes"] = child.shape, parent.shape, child_groups.shape, parent_groups.shape
        seen["child"], seen["parent"] = child_groups, parent_groups
        if features == "patches":
            made = parent @ model.conv2.weight.detach().flatten(1).T + model.conv2.bias.detach()
            torch.testing.assert_close(made, child, atol=1e-4, rtol=1e-4)
        return Estimate(torch.zeros(5, 3))

    estimated(model, cells, grey, spy, features)
    assert seen["shapes"] == ((40, 16), (40, columns), (16,), (columns,))
    assert seen["child"].bincount().tolist() == [4, 3, 3, 3, 3]
    assert seen["parent"].tolist() == [g for g in range(3) for _ in range(columns // 3)]


def test_an_estimate_is_handed_on_as_it_is(model, cells, grey):
    wanted = Estimate(torch.rand(5, 3), (torch.rand(5, 3), torch.rand(5, 3)))
    assert estimated(model, cells, grey, lambda *a: wanted) == {"conv2": wanted}


def test_what_is_wrong_with_activations_is_told_with_the_layer(model, cells, grey):
    def broken(child, parent, child_groups, parent_groups, rng, /):
        raise DataError("parent group 2 holds NaN")

    with pytest.raises(DataError, match="layer conv2: parent group 2 holds NaN"):
        estimated(model, cells, grey, broken)


def checked(model, cells, labels, features="means", samples_per_class=4, **settings):
    def estimator(child, parent, child_groups, parent_groups, rng, /, *, least):
        return None

    def least(rows, /, *, least):
        if rows < least:
            raise SettingError("samples", f"must be at least {least}", rows)

    plugin = partial(checked_by(least)(estimator), least=settings.get("least", 1))
    layers = record(model, settings.get("pixels", GREY))
    check(
        layers,
        cells,
        labels,
        samples_per_class=samples_per_class,
        features=features,
        estimator=plugin,
    )


def test_what_it_can_do_passes_its_check(model, cells, grey):
    checked(model, cells, grey.labels)
    checked(model, weight_cells(model, "conv2", pixels=GREY), grey.labels, features="patches")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"features": "maps"}, "^features must be one of means, patches, not maps"),
        ({"samples_per_class": 9}, "between 1 and 8"),
        ({"least": 41}, "estimator.samples must be at least 41, not 40"),
    ],
)
def test_bad_settings_are_refused_before_any_work(model, cells, grey, changed, named):
    with pytest.raises(SettingError, match=named):
        checked(model, cells, grey.labels, **changed)


def test_single_weights_of_a_channel_that_is_averaged_over_space_are_refused(model, grey):
    cells = weight_cells(model, "conv2", pixels=GREY)
    with pytest.raises(
        SettingError, match="granularity must be blocks: .* a channel of layer conv2 is one feature"
    ):
        checked(model, cells, grey.labels)


class Grouped(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.depthwise(self.first(x)).mean((2, 3)))


def test_a_layer_whose_groups_see_other_inputs_is_refused_by_name(grey):
    model = Grouped()
    cells = block_cells(model, pixels=GREY)
    wanted = r"skip must leave alone depthwise; .* grouped convolution \(groups=4\)"
    with pytest.raises(SettingError, match=wanted):
        checked(model, cells, grey.labels)


class Tokens(nn.Module):
    """As many tokens as channels: they must not be taken for each other."""

    def __init__(self):
        super().__init__()
        self.mix, self.out = nn.Linear(7, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(self.mix(x[:, 0, :7, :7]).relu().mean(1))


def test_features_of_a_linear_layer_on_tokens_are_its_channels_averaged_over_tokens(grey):
    model, seen = seeded(Tokens), {}

    def spy(child, parent, child_groups, parent_groups, rng, /):
        seen[len(child_groups)] = child, parent
        return Estimate(torch.zeros(len(child_groups), len(parent_groups)))

    cells = block_cells(model, pixels=GREY)
    assert list(layers_of(model, GREY)) == ["mix", "out"]
    estimated(model, cells, grey, spy)
    child, parent = seen[5]
    made = parent @ model.mix.weight.detach().T + model.mix.bias.detach()
    torch.testing.assert_close(made, child, atol=1e-5, rtol=1e-5)


def coloured(count=60):
    pixels = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8)
    return Images(pixels, torch.arange(count) % 10)


@pytest.mark.parametrize("features", ["means", "patches"])
@pytest.mark.parametrize("kind", ["residual", "flattened"])
def test_whole_channels_are_judged_by_the_layers_that_read_them(kind, features):
    model = normalise_inputs(NETWORKS[kind](), (0.0,) * 3, (1.0,) * 3).eval()
    cells, sizes = filter_cells(model), {}
    settings = {"samples_per_class": 1, "features": features, "estimator": partial(print)}
    check(record(model, PIXELS), cells, torch.arange(10) % 3, **settings)

    def counted(child, parent, child_groups, parent_groups, rng, /):
        assert child_groups.tolist() == [0] * child.shape[1]
        sizes.setdefault(parent.shape[1], parent_groups.bincount().tolist())
        return Estimate(torch.arange(len(sizes[parent.shape[1]])).float()[None])

    found = estimated(model, cells, coloured(), counted, features)
    kernel = 9 if features == "patches" else 1
    if kind == "flattened":  # 64 pixels of every channel enter the linear layer
        assert sizes == {256: [64] * 4} and found["first"].score.tolist() == [0, 1, 2, 3]
    else:  # the stream of 6 is read by inner and by the classifier, its two scores are summed
        assert sizes == {6 * kernel: [kernel] * 6, 4 * kernel: [kernel] * 4, 6: [1] * 6}
        assert found["stem"].score.tolist() == [0, 2, 4, 6, 8, 10]
        assert found["inner"].score.tolist() == [0, 1, 2, 3]


def test_a_channel_that_its_reader_ignores_carries_no_information():
    model = normalise_inputs(NETWORKS["sequential"](), (0.0,) * 3, (1.0,) * 3).eval()
    model.norm.reset_running_stats()
    nn.init.constant_(model.norm.weight, 1.0)
    nn.init.constant_(model.norm.bias, 2.0)  # no channel falls silent by its ReLU
    model.last.weight.data[:, 2] = 0.0
    estimator = partial(gaussian, ridge=1e-5, form="variance")
    settings = {"samples_per_class": 200, "features": "patches", "estimator": estimator}
    rng = np.random.default_rng(0)  # 54 inputs want many more rows
    found = conditional_information(model, filter_cells(model), coloured(2000), rng, **settings)
    score = found["first"].score
    assert score.argmin() == 2 and float(score[2]) < 0.01 * float(score[torch.arange(6) != 2].min())


def test_channels_that_are_in_no_cell_are_given_together_and_get_no_score():
    owner, seen = torch.tensor([-1, 1, 0, -1]), {}

    def read(children, parents, rng):
        seen["groups"] = children.tolist(), parents.tolist()
        halves = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[3.0, 4.0, 5.0]])
        return Estimate(torch.tensor([[5.0, 6.0, 7.0]]), halves)

    found = of_channels(read, owner, 2, 3, np.random.default_rng(0))
    assert seen["groups"] == ([0, 0], [0, 2, 1, 0]) and found.score.tolist() == [6.0, 7.0, 0.0]
    assert [half.tolist() for half in found.halves] == [[2.0, 3.0, 0.0], [4.0, 5.0, 0.0]]


def test_whole_units_are_refused_in_a_sentence():
    model = branches.network(branches.residual)
    cells, layers = branches.unit_cells(model), layers_of(model, branches.PIXELS)
    settings = {"samples_per_class": 4, "features": "means", "estimator": partial(no_estimator)}
    with pytest.raises(SettingError, match="^granularity must be .*: whole units are no pairs"):
        check(layers, cells, torch.arange(80) % 10, **settings)


def no_estimator(child, parent, child_groups, parent_groups, rng, /):
    raise AssertionError


def test_an_estimator_against_classes_is_refused_and_told_where_it_belongs(model, cells):
    from mint_cli.estimator.mixture import mixture

    estimator = partial(mixture, bandwidth=None, form="left_out")
    settings = {"samples_per_class": 4, "features": "means", "estimator": estimator}
    with pytest.raises(
        SettingError, match="^estimator must measure .* label_information does, not mix"
    ):
        check(layers_of(model, GREY), cells, torch.arange(80) % 10, **settings)
