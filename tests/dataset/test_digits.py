import pytest
import torch

from mint_cli.data.splits import checked
from mint_cli.dataset.digits import digits
from mint_cli.errors import SettingError

SETTINGS = {"validation": 200, "seed": 0, "mean": [0.0], "std": [1.0]}


def test_it_has_1437_training_and_360_test_images_of_ten_classes():
    splits = checked(digits(None, **SETTINGS), "digits")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (1237, 200, 360)
    assert splits.train.pixels.dtype == torch.uint8 and splits.train.pixels.shape[1:] == (1, 8, 8)
    assert splits.test.pixels.max() == 255 and set(splits.train.labels.tolist()) == set(range(10))


@pytest.mark.parametrize(
    "setting, value, message",
    [
        ("validation", 1436, "validation must lie between 0 and 1435 of the 1437 .*, not 1436"),
        ("seed", -1, "seed must be at least 0, not -1"),
        ("mean", [0.0, 0.0], r"mean must be .*, not \[0.0, 0.0\]"),
    ],
)
def test_a_setting_out_of_its_bounds_is_named_with_bound_and_value(setting, value, message):
    with pytest.raises(SettingError, match=f"^{message}$"):
        digits(None, **{**SETTINGS, setting: value})
