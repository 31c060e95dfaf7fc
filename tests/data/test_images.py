from dataclasses import replace

import numpy as np
import pytest
import torch

from mint_cli.data import images as im
from mint_cli.errors import SettingError
from mint_cli.protocol import Images


def test_the_training_transform_gives_crops_of_the_padded_image_and_their_mirror_images():
    pixels = torch.randint(1, 256, (4, 2, 5, 5), dtype=torch.uint8)
    images = Images(pixels, torch.zeros(4, dtype=torch.long), padding=1, flip=True)
    padded = torch.nn.functional.pad(pixels, (1, 1, 1, 1)).float() / 255
    index = torch.arange(4).repeat(50)
    seen = set()
    for i, out in zip(index.tolist(), im.augmented(images, index, np.random.default_rng(0)), strict=True):
        matches = [
            (t, le, f)
            for t in range(3)
            for le in range(3)
            for f in (False, True)
            if torch.equal(out, padded[i, :, t : t + 5, le : le + 5].flip(-1) if f else padded[i, :, t : t + 5, le : le + 5])
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 18  # every crop, both ways


def test_without_padding_and_flip_the_transform_is_the_identity():
    images = Images(torch.randint(0, 256, (4, 1, 5, 5), dtype=torch.uint8), torch.zeros(4, dtype=torch.long))
    assert torch.equal(im.augmented(images, torch.arange(4), np.random.default_rng(0)), im.plain(images, torch.arange(4)))


def test_samples_per_class_are_distinct_and_of_equal_number(images):
    index = im.per_class(images, 40, np.random.default_rng(0))
    assert len(index.unique()) == 120 and images.labels[index].bincount().tolist() == [40, 40, 40]


@pytest.mark.parametrize("count", [0, 101])
def test_more_samples_than_a_class_has_are_refused(images, count):
    with pytest.raises(SettingError, match=f"between 1 and 100.*not {count}"):
        im.check_per_class(images.labels, count)


def test_splits_are_disjoint_cover_train_and_depend_on_the_seed_only(images):
    def parts(validation, seed):
        s = im.split(replace(images, padding=2, flip=True), images, 3, validation, seed, [0.0], [1.0])
        return s, s.train.pixels.flatten(1), s.validation.pixels.flatten(1)

    s, train, held = parts(50, 1)
    joined = torch.cat([train, held])
    assert len(joined) == 300 and len(joined.unique(dim=0)) == len(images.pixels.flatten(1).unique(dim=0))
    assert torch.equal(held, parts(50, 1)[2]) and not torch.equal(held, parts(50, 2)[2])
    assert s.train.padding == 2 and s.validation.padding == 0 and not s.validation.flip
    assert len(parts(0, 1)[0].validation) == 0


@pytest.mark.parametrize("validation", [-1, 300])
def test_a_validation_size_outside_the_training_set_is_refused(images, validation):
    with pytest.raises(SettingError, match=r"dataset\.validation"):
        im.split(images, images, 3, validation, 0, [0.0], [1.0])
