from dataclasses import replace

import numpy as np
import pytest
import torch

from mint_cli.data import images as im
from mint_cli.data import splits as module
from mint_cli.data.splits import checked, chunks, digest
from mint_cli.errors import DataError
from mint_cli.protocol import Splits


@pytest.fixture
def splits(images) -> Splits:
    return im.split(replace(images, padding=2, flip=True), images, 3, 50, 0, [0.5], [0.25])


def changed(splits: Splits, part: str, **fields) -> Splits:
    return replace(splits, **{part: replace(getattr(splits, part), **fields)})


def test_what_a_data_set_of_ours_returns_passes_as_it_is(splits):
    assert checked(splits, "ours") is splits


def test_an_empty_validation_split_passes(images):
    splits = im.split(images, images, 3, 0, 0, [0.5], [0.25])
    assert checked(splits, "ours") is splits


REFUSED = {
    "floats": (
        lambda p, y: (p / 255, y),
        r"pixels must be uint8, 0 to 255.*float32 \(\d+, 1, 6, 6\)",
    ),
    "signed": (lambda p, y: (p.long(), y), r"pixels must be uint8.*not int64"),
    "array": (lambda p, y: (p.numpy(), y), r"pixels must be uint8.*not ndarray"),
    "nothing": (lambda p, y: (None, y), r"pixels must be uint8.*not NoneType"),
    "flat": (
        lambda p, y: (p.flatten(1), y),
        r"pixels must be .*axes \(n, c, h, w\).*not uint8 \(\d+, 36\)",
    ),
    "no rows": (lambda p, y: (p[:, :, :0], y), "pixels must be at least 1 × 1"),
    "short labels": (lambda p, y: (p, y.int()), r"labels must be int64, \(n,\), not int32"),
    "one-hot": (
        lambda p, y: (p, y.expand(3, -1)),
        r"labels must be int64, \(n,\), not int64 \(3, \d+\)",
    ),
    "unequal": (lambda p, y: (p[1:], y), r"labels must be as many as its images, (\d+), not \d+"),
    "too large": (lambda p, y: (p, y + 1), "labels must lie between 0 and 2, not 3"),
    "negative": (lambda p, y: (p, y - 1), "labels must lie between 0 and 2, not -1"),
}


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("case", REFUSED)
def test_images_of_a_wrong_type_rank_number_or_range_are_refused_by_split(splits, part, case):
    change, message = REFUSED[case]
    images = getattr(splits, part)
    pixels, labels = change(images.pixels, images.labels)
    with pytest.raises(DataError, match=rf"data set mine .*: {part}\.{message}"):
        checked(changed(splits, part, pixels=pixels, labels=labels), "mine")


@pytest.mark.parametrize("part", ["validation", "test"])
def test_images_of_another_size_than_those_of_train_are_refused(splits, part):
    pixels = getattr(splits, part).pixels[:, :, :4]
    with pytest.raises(DataError, match=rf"{part}\.pixels .*train, \(1, 6, 6\), not \(1, 4, 6\)"):
        checked(changed(splits, part, pixels=pixels), "mine")


@pytest.mark.parametrize("part, left, least", [("train", 1, 2), ("train", 0, 2), ("test", 0, 1)])
def test_too_few_images_to_train_or_test_with_are_refused(splits, part, left, least):
    few = im.take(getattr(splits, part), torch.arange(left))
    with pytest.raises(DataError, match=rf"{part}\.images must be {least} or more, not {left}"):
        checked(replace(splits, **{part: few}), "mine")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"mean": (0.5, 0.5)}, r"mean must be numbers from .*channel \(1\), not \(0\.5, 0\.5\)"),
        ({"mean": (float("nan"),)}, r"mean must be .*not \(nan,\)"),
        ({"mean": ("0.5",)}, "mean must be .*0.5"),
        ({"mean": None}, "mean must be .*not None"),
        ({"std": (float("inf"),)}, r"std must be .*not \(inf,\)"),
        ({"std": (0.0,)}, r"std must be .*from 1e-06 to 1e\+06.*not \(0\.0,\)"),
        ({"std": (1e-300,)}, r"std must be .*not \(1e-300,\)"),
        ({"std": ()}, r"std must be .*not \(\)"),
        ({"classes": 1}, "classes must be a whole number of at least 2, not 1"),
        ({"classes": 3.0}, "classes must be a whole number of at least 2, not 3.0"),
        ({"test": None}, "test must be Images, not NoneType"),
    ],
)
def test_classes_and_normalisations_that_make_no_sense_are_refused(splits, fields, message):
    with pytest.raises(DataError, match=f"data set mine .*: {message}"):
        checked(replace(splits, **fields), "mine")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"padding": -1}, "padding must be a whole number from 0 to 5, .*not -1"),
        ({"padding": 6}, "padding must be a whole number from 0 to 5, .*not 6"),
        ({"padding": 1.0}, "padding must be .*not 1.0"),
        ({"flip": 1}, "flip must be true or false, not 1"),
    ],
)
def test_a_transform_that_makes_no_sense_is_refused(splits, fields, message):
    with pytest.raises(DataError, match=rf"train\.{message}"):
        checked(changed(splits, "train", **fields), "mine")


def test_anything_but_splits_is_refused(splits):
    with pytest.raises(DataError, match="data set mine .*must be a Splits, not tuple"):
        checked((splits.train, splits.test), "mine")


def test_classes_without_training_images_are_told(splits, caplog):
    checked(replace(splits, classes=5), "mine")
    assert "mine has no training image of 2 of its 5 classes, as of [3, 4]" in caplog.text


def test_pixels_of_zero_and_one_are_told(splits, caplog):
    checked(splits, "mine")
    assert not caplog.text
    checked(changed(splits, "train", pixels=splits.train.pixels.clamp(max=1)), "mine")
    assert "mine has no training pixel above 1" in caplog.text


def variants(splits: Splits):
    """The same splits with one thing changed each."""
    for part in ("train", "validation", "test"):
        images = getattr(splits, part)
        yield changed(splits, part, labels=images.labels.roll(1))
        yield changed(splits, part, pixels=images.pixels.roll(1, 0))
        yield changed(
            splits, part, pixels=images.pixels.bitwise_xor(torch.tensor(1, dtype=torch.uint8))
        )
        yield changed(splits, part, pixels=images.pixels.view(-1, 1, 4, 9))
        yield changed(splits, part, pixels=images.pixels[1:], labels=images.labels[1:])
        yield changed(splits, part, padding=3)
        yield changed(splits, part, flip=not images.flip)
    yield replace(splits, classes=4)
    yield replace(splits, mean=(0.25,))
    yield replace(splits, std=(0.5,))
    yield replace(splits, mean=splits.std, std=splits.mean)
    yield replace(splits, train=splits.test, test=splits.train)


def test_whatever_a_result_can_depend_on_changes_the_digest(splits):
    found = [digest(splits), *(digest(other) for other in variants(splits))]
    assert len(set(found)) == len(found) == 27


def test_two_splits_of_the_same_content_have_one_digest_whatever_their_place_in_memory(splits):
    pixels = torch.randint(0, 256, (30, 3, 6, 5), dtype=torch.uint8)
    one = changed(splits, "train", pixels=pixels)
    strided = torch.stack([splits.train.labels, splits.train.labels], 1)[:, 0]
    two = changed(one, "train", pixels=pixels.to(memory_format=torch.channels_last), labels=strided)
    assert not two.train.pixels.is_contiguous() and not two.train.labels.is_contiguous()
    assert digest(one) == digest(two)


def test_numbers_of_one_value_have_one_digest(splits):
    whole, floats = replace(splits, mean=[0], std=[1]), replace(splits, mean=(0.0,), std=(1.0,))
    assert digest(whole) == digest(floats)


def test_the_digest_does_not_depend_on_how_much_is_hashed_at_once(splits, monkeypatch):
    whole = digest(splits)
    monkeypatch.setattr(module, "CHUNK", 100)
    assert digest(splits) == whole


def test_what_is_hashed_is_no_copy_of_the_images(images):
    (seen,) = chunks(images.pixels)
    assert np.shares_memory(seen, images.pixels.numpy())


def test_the_digest_of_the_same_images_does_not_change_with_the_version():
    # Stores hold artifacts under keys made of it.
    pixels = torch.arange(24, dtype=torch.uint8).view(6, 1, 2, 2)
    images = im.Images(pixels, torch.arange(6) % 2)
    small = im.split(images, images, 2, 1, 0, [0.5], [0.25])
    assert digest(small) == "13f42d1aa96fb0d949faa88b3898a18ea1ceb03fbdd5903491de6992cebada08"
