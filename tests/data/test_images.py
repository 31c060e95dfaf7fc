from dataclasses import replace

import numpy as np
import pytest
import torch

from mint_cli.data import images as im
from mint_cli.errors import DataError, SettingError
from mint_cli.protocol import Images


def test_the_training_transform_gives_crops_of_the_padded_image_and_their_mirror_images():
    pixels = torch.randint(1, 256, (4, 2, 5, 5), dtype=torch.uint8)
    images = Images(pixels, torch.zeros(4, dtype=torch.long), padding=1, flip=True)
    padded = torch.nn.functional.pad(pixels, (1, 1, 1, 1)).float() / 255
    crops = {
        (top, left): padded[:, :, top : top + 5, left : left + 5]
        for top in range(3)
        for left in range(3)
    }
    views = crops | {(*place, "flipped"): crop.flip(-1) for place, crop in crops.items()}
    index = torch.arange(4).repeat(50)
    seen = set()
    made = next(im.augmentations(images, [index], np.random.default_rng(0)))
    for i, out in zip(index.tolist(), made, strict=True):
        matches = [view for view, all_images in views.items() if torch.equal(out, all_images[i])]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 18  # every crop, both ways


def test_without_padding_and_flip_the_transform_is_the_identity():
    pixels = torch.randint(0, 256, (4, 1, 5, 5), dtype=torch.uint8)
    images, index = Images(pixels, torch.zeros(4, dtype=torch.long)), torch.arange(4)
    out = next(im.augmentations(images, [index], np.random.default_rng(0)))
    assert torch.equal(out, im.plain(images, index))


def test_the_draws_of_a_seed_stay_what_they_are():
    # Published figures depend on them.
    pixels = torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1).expand(8, 1, 9, 9)
    images = Images(pixels, torch.arange(8) % 2, padding=4, flip=True)
    rng = np.random.default_rng(1)
    top, left, flipped = (draws.int().tolist() for draws in im.draw(images, 5, rng))
    assert (top, left, flipped) == ([4, 4, 6, 8, 0], [1, 7, 8, 2, 2], [1, 0, 1, 0, 1])
    assert im.per_class(images, 2, rng).tolist() == [4, 6, 7, 3]
    held = im.split(images, images, 2, 3, 7, [0.0], [1.0]).validation
    assert held.pixels[:, 0, 0, 0].tolist() == [1, 3, 7]


def test_samples_per_class_are_distinct_and_of_equal_number(images):
    index = im.per_class(images, 40, np.random.default_rng(0))
    assert len(index.unique()) == 120 and images.labels[index].bincount().tolist() == [40, 40, 40]


@pytest.mark.parametrize("count", [0, 101])
def test_more_samples_than_a_class_has_are_refused(images, count):
    with pytest.raises(SettingError, match=rf"^samples_per_class must .*1 and 100.*not {count}$"):
        im.check_per_class(images.labels, count)


def test_a_class_without_images_has_no_samples():
    with pytest.raises(SettingError, match="^samples_per_class needs .* none of class 1$"):
        im.check_per_class(torch.tensor([0, 2, 2]), 1)


def test_a_subset_has_the_first_images_of_every_class_in_equal_numbers_and_in_order():
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 2])
    images = Images(
        torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1), labels, padding=0, flip=True
    )

    def numbers(count):
        return im.first(images, count).pixels.flatten().tolist()

    assert numbers(3) == [0, 6, 9]  # each class
    assert numbers(5) == [0, 1, 6, 7, 9]
    assert numbers(8) == [0, 1, 2, 3, 6, 7, 8, 9]  # classes 1 and 2 have no more
    assert numbers(2) == [0, 6]  # fewer than classes
    assert numbers(10) == numbers(99) == list(range(10))
    assert im.first(images, 5).labels.tolist() == [0, 0, 1, 1, 2] and im.first(images, 5).flip


def test_splits_are_disjoint_cover_train_and_depend_on_the_seed_only(images):
    def parts(validation, seed):
        s = im.split(
            replace(images, padding=2, flip=True), images, 3, validation, seed, [0.0], [1.0]
        )
        return s, s.train.pixels.flatten(1), s.validation.pixels.flatten(1)

    s, train, held = parts(50, 1)
    joined = torch.cat([train, held])
    assert len(joined) == 300
    assert len(joined.unique(dim=0)) == len(images.pixels.flatten(1).unique(dim=0))
    assert torch.equal(held, parts(50, 1)[2]) and not torch.equal(held, parts(50, 2)[2])
    assert s.train.padding == 2 and s.validation.padding == 0 and not s.validation.flip
    assert len(parts(0, 1)[0].validation) == 0


def split(images, **settings):
    return im.split(
        images, images, 3, **{"validation": 9, "seed": 0, "mean": [0.0], "std": [1.0]} | settings
    )


@pytest.mark.parametrize("validation", [-1, 299, 300])
def test_a_validation_split_that_leaves_fewer_than_two_images_is_refused(images, validation):
    assert len(split(images, validation=298).train) == 2
    message = (
        f"^validation must lie between 0 and 298 of the 300 training images, not {validation}$"
    )
    with pytest.raises(SettingError, match=message):
        split(images, validation=validation)


@pytest.mark.parametrize("count", [0, 1])
def test_a_data_set_of_fewer_than_two_training_images_is_refused(images, count):
    few = im.take(images, torch.arange(count))
    with pytest.raises(DataError, match=f"needs at least 2 images, and there are {count}$"):
        split(few, validation=0)


BAD = [
    ("seed", -1, "seed must be at least 0, not -1"),
    (
        "mean",
        [0.0, 0.0],
        r"mean must be numbers from -1e\+06 to 1e\+06, .* \(1\), not \[0\.0, 0\.0\]",
    ),
    ("mean", [], r"mean must be .*, not \[\]"),
    ("mean", [float("nan")], r"mean must be .*, not \[nan\]"),
    ("mean", [float("-inf")], r"mean must be .*, not \[-inf\]"),
    ("std", [float("inf")], r"std must be .*, not \[inf\]"),
    ("std", [float("nan")], r"std must be .*, not \[nan\]"),
    ("std", [0.0], r"std must be .*, not \[0\.0\]"),
    ("std", [-1.0], r"std must be .*, not \[-1\.0\]"),
    ("std", [1e-300], r"std must be .*, not \[1e-300\]"),
    ("std", [1.0, 1.0], r"std must be .*, not \[1\.0, 1\.0\]"),
]


@pytest.mark.parametrize("setting, value, message", BAD)
def test_a_setting_out_of_its_bounds_is_named_with_bound_and_value(images, setting, value, message):
    with pytest.raises(SettingError, match=f"^{message}$"):
        split(images, **{setting: value})


@pytest.mark.parametrize("padding", [-1, 6])
def test_a_border_from_which_crops_miss_the_image_is_refused(images, padding):
    split(replace(images, padding=5))
    with pytest.raises(SettingError, match=f"^padding must .* from 0 to 5, .*, not {padding}$"):
        split(replace(images, padding=padding))


def test_a_flip_that_is_neither_true_nor_false_is_refused(images):
    with pytest.raises(SettingError, match="^flip must be true or false, not 1$"):
        split(replace(images, flip=1))
