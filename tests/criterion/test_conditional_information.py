from functools import partial

import numpy as np
import pytest
import torch

from mint_cli.criterion.conditional_information import check, conditional_information
from mint_cli.model.lenet5 import lenet5
from mint_cli.network.layers import normalise_inputs
from mint_cli.errors import DataError, SettingError
from mint_cli.protocol import Estimate, Images

SETTINGS = {"samples_per_class": 4, "child_groups": 5, "parent_groups": 3, "features": "means"}


@pytest.fixture
def grey():
    return Images(torch.randint(0, 256, (80, 1, 28, 28), dtype=torch.uint8), torch.arange(80) % 10)


@pytest.fixture
def model():
    return normalise_inputs(lenet5((1, 28, 28), 10), (0.0,), (1.0,)).eval()


@pytest.mark.parametrize(("features", "columns"), [("means", 6), ("patches", 150)])
def test_the_estimator_gets_paired_samples_and_the_group_of_every_column(model, grey, features, columns):
    seen = {}

    def spy(child, parent, child_groups, parent_groups, rng, /):
        seen["shapes"] = child.shape, parent.shape, child_groups.shape, parent_groups.shape
        seen["groups"] = parent_groups.bincount().tolist()
        if features == "patches":
            flat = model.conv2.weight.detach().flatten(1)
            torch.testing.assert_close(parent @ flat.T + model.conv2.bias.detach(), child, atol=1e-4, rtol=1e-4)
        return Estimate(torch.zeros(5, 3))

    settings = SETTINGS | {"features": features}
    estimate = conditional_information(model, ["conv2"], grey, np.random.default_rng(0), **settings, estimator=partial(spy))["conv2"]
    assert seen["shapes"] == ((40, 16), (40, columns), (16,), (columns,)) and seen["groups"] == [columns // 3] * 3
    assert estimate.child_groups.bincount().tolist() == [4, 3, 3, 3, 3] and estimate.parent_groups.tolist() == [0, 0, 1, 1, 2, 2]


def test_what_is_wrong_with_activations_is_told_with_the_layer(model, grey):
    def broken(child, parent, child_groups, parent_groups, rng, /):
        raise DataError("parent group 2 holds NaN")

    with pytest.raises(DataError, match="layer conv2: parent group 2 holds NaN"):
        conditional_information(model, ["conv2"], grey, np.random.default_rng(0), **SETTINGS, estimator=partial(broken))


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"features": "maps"}, "means, patches"), ({"samples_per_class": 9}, "between 1 and 8"), ({"child_groups": 17}, "16")],
)
def test_bad_settings_are_refused_before_any_work(grey, changed, named):
    with pytest.raises(SettingError, match=named):
        check({"conv2": (16, 6, 25, 64)}, grey.labels, **(SETTINGS | changed), estimator=None)
