"""Folders of images: every format becomes three channels, classes go by name, and what cannot be
read is named.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mint_cli.data.splits import digest
from mint_cli.dataset.imagefolder import imagefolder
from mint_cli.errors import DataError, SettingError

SETTINGS = {
    "folder": None, "size": 8, "memory": "auto", "validation": 0, "test_share": 0.25, "seed": 0,
    "padding": 0, "flip": False, "mean": [0.5] * 3, "std": [0.5] * 3,
}  # fmt: skip


def fill(
    folder: Path, count: int, colour: tuple[int, int, int], ending: str = "png", mode: str = "RGB"
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image = Image.fromarray(np.full((10 + i, 20, 3), colour, np.uint8)).convert(mode)
        image.save(folder / f"{i}.{ending}")


def pixels(images) -> torch.Tensor:
    return images.pixels[torch.arange(len(images))]


def cut_short(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])


@pytest.fixture
def tree(tmp_path) -> Path:
    for part, count in (("train", 4), ("val", 2)):
        fill(tmp_path / part / "blue", count, (0, 0, 250))
        fill(tmp_path / part / "red", count, (250, 0, 0))
    return tmp_path


def test_classes_are_the_folders_in_order_and_the_middle_square_is_kept(tree):
    splits = imagefolder(tree, **SETTINGS)
    assert splits.classes == 2 and len(splits.train) == 8 and len(splits.test) == 4
    assert (
        splits.train.pixels.shape == (8, 3, 8, 8)
        and splits.train.labels.tolist() == [0] * 4 + [1] * 4
    )
    assert (pixels(splits.train)[0, 2] == 250).all() and (pixels(splits.test)[3, 0] == 250).all()


def test_wide_images_lose_their_sides_not_their_shape(tree):
    stripes = np.zeros((10, 30, 3), np.uint8)
    stripes[:, 10:20] = 200  # the middle third
    Image.fromarray(stripes).save(tree / "train" / "red" / "0.png")
    wide = pixels(imagefolder(tree, **SETTINGS | {"size": 10}).train)[4]
    assert (wide[:, :, 1:9] == 200).all()


@pytest.mark.parametrize(
    ("ending", "mode"),
    [("jpg", "RGB"), ("webp", "RGB"), ("png", "P"), ("png", "L"), ("png", "RGBA"), ("gif", "P")],
)
def test_every_format_and_mode_becomes_three_channels(tree, ending, mode):
    fill(tree / "train" / "white", 2, (255, 255, 255), ending, mode)
    splits = imagefolder(tree, **SETTINGS)
    assert splits.classes == 3 and (pixels(splits.train)[-1] >= 252).all()


def test_one_folder_is_split_by_the_seed_with_every_class_on_both_sides(tmp_path):
    fill(tmp_path / "own" / "a", 8, (10, 10, 10))
    fill(tmp_path / "own" / "b", 4, (90, 90, 90))
    first, again, other = (
        imagefolder(tmp_path, **SETTINGS | {"folder": "own", "seed": s}) for s in (0, 0, 1)
    )
    assert first.test.labels.tolist() == [0, 0, 1] and len(first.train) == 9
    assert torch.equal(pixels(first.train), pixels(again.train))
    assert len(other.test) == 3


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (
            lambda t: (t / "train" / "red" / "0.png").write_bytes(b"no image"),
            "0.png is no image that can be read",
        ),
        (lambda t: cut_short(t / "train" / "red" / "0.png"), "0.png is no image that can be read"),
        (lambda t: (t / "train" / "empty").mkdir(), "empty holds no images"),
        (
            lambda t: fill(t / "val" / "green", 1, (0, 250, 0)),
            "green, of which train/ has no images",
        ),
        (lambda t: [p.unlink() for p in (t / "val").rglob("*.png")], "holds no images"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(tree, broken, told):
    broken(tree)
    with pytest.raises(DataError, match=told):
        imagefolder(tree, **SETTINGS)


def test_a_folder_that_is_missing_or_has_one_class_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        imagefolder(tmp_path / "nowhere", **SETTINGS)
    fill(tmp_path / "alone", 3, (1, 1, 1))
    with pytest.raises(DataError, match="two or more classes, not 1"):
        imagefolder(tmp_path, **SETTINGS)


def noisy(folder: Path) -> Path:
    """Images of many sizes and formats, no two alike."""
    rng = np.random.default_rng(0)
    for part, label, count in (
        ("train", "a", 9),
        ("train", "b", 8),
        ("val", "a", 3),
        ("val", "b", 4),
    ):
        (folder / part / label).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            image = Image.fromarray(rng.integers(0, 256, (9 + 3 * i, 30 - i, 3), np.uint8))
            ending = ("png", "jpg", "webp")[i % 3]
            image.convert("P" if i == 3 else "L" if i == 6 else "RGB").save(
                folder / part / label / f"{i}.{ending}"
            )
    return folder


def test_images_that_are_read_as_needed_are_those_in_memory_bit_for_bit(tmp_path):
    """Held-out images, transform and the digest that keys are made of included."""
    settings = SETTINGS | {"validation": 5, "padding": 2, "flip": True}
    noisy(tmp_path)
    kept, needed = (imagefolder(tmp_path, **settings | {"memory": m}) for m in ("auto", 0))
    assert kept.train.pixels.held is not None and needed.train.pixels.held is None
    for part in ("train", "validation", "test"):
        one, other = getattr(kept, part), getattr(needed, part)
        assert torch.equal(pixels(one), pixels(other)) and torch.equal(one.labels, other.labels)
        assert (one.padding, one.flip) == (other.padding, other.flip)
    assert digest(kept) == digest(needed)


def test_memory_is_what_all_pixels_may_take_up(tmp_path):
    whole = 24 * 3 * 8 * 8
    assert (
        imagefolder(noisy(tmp_path), **SETTINGS | {"memory": whole}).train.pixels.held is not None
    )
    assert imagefolder(tmp_path, **SETTINGS | {"memory": whole - 1}).test.pixels.held is None


@pytest.mark.parametrize("memory", [-1, "all", "2GB"])
def test_a_memory_that_is_no_number_of_bytes_is_refused(tree, memory):
    with pytest.raises(SettingError, match="memory must be auto or a number of bytes"):
        imagefolder(tree, **SETTINGS | {"memory": memory})


def test_the_digest_follows_names_sizes_and_what_files_hold(tree):
    first = digest(imagefolder(tree, **SETTINGS))
    assert digest(imagefolder(tree, **SETTINGS | {"size": 9})) != first
    (tree / "train" / "red" / "0.png").rename(tree / "train" / "red" / "9.png")
    assert digest(imagefolder(tree, **SETTINGS)) != first


def test_of_images_read_as_needed_one_that_is_cut_short_is_named_when_it_is_read(tree):
    cut_short(tree / "train" / "red" / "2.png")
    splits = imagefolder(tree, **SETTINGS | {"memory": 0})
    with pytest.raises(DataError, match="2.png is no image that can be read"):
        pixels(splits.train)
    (tree / "train" / "red" / "3.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="3.png is no image that can be read"):
        imagefolder(tree, **SETTINGS | {"memory": 0})


@pytest.mark.parametrize(
    ("name", "value"), [("size", 0), ("size", 5000), ("test_share", 0.0), ("test_share", 1.0)]
)
def test_settings_out_of_bounds_are_refused(tmp_path, name, value):
    fill(tmp_path / "a", 3, (1, 1, 1))
    fill(tmp_path / "b", 3, (2, 2, 2))
    with pytest.raises(SettingError, match=name):
        imagefolder(tmp_path, **SETTINGS | {name: value})
