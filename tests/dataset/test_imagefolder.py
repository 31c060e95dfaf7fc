"""Folders of images: every format becomes three channels, classes go by name, and what cannot be read is named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mint_cli.dataset.imagefolder import imagefolder
from mint_cli.errors import DataError, SettingError

SETTINGS = {
    "folder": None, "size": 8, "memory": "auto", "validation": 0, "test_share": 0.25, "seed": 0,
    "padding": 0, "flip": False, "mean": [0.5] * 3, "std": [0.5] * 3,
}  # fmt: skip


def fill(folder: Path, count: int, colour: tuple[int, int, int], ending: str = "png", mode: str = "RGB") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image = Image.fromarray(np.full((10 + i, 20, 3), colour, np.uint8)).convert(mode)
        image.save(folder / f"{i}.{ending}")


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
    assert splits.train.pixels.shape == (8, 3, 8, 8) and splits.train.labels.tolist() == [0] * 4 + [1] * 4
    assert (splits.train.pixels[0, 2] == 250).all() and (splits.test.pixels[3, 0] == 250).all()


def test_wide_images_lose_their_sides_not_their_shape(tree):
    stripes = np.zeros((10, 30, 3), np.uint8)
    stripes[:, 10:20] = 200  # the middle third
    Image.fromarray(stripes).save(tree / "train" / "red" / "0.png")
    pixels = imagefolder(tree, **SETTINGS | {"size": 10}).train.pixels[4]
    assert (pixels[:, :, 1:9] == 200).all()


@pytest.mark.parametrize(("ending", "mode"), [("jpg", "RGB"), ("webp", "RGB"), ("png", "P"), ("png", "L"), ("png", "RGBA"), ("gif", "P")])
def test_every_format_and_mode_becomes_three_channels(tree, ending, mode):
    fill(tree / "train" / "white", 2, (255, 255, 255), ending, mode)
    splits = imagefolder(tree, **SETTINGS)
    assert splits.classes == 3 and (splits.train.pixels[-1] >= 252).all()


def test_one_folder_is_split_by_the_seed_with_every_class_on_both_sides(tmp_path):
    fill(tmp_path / "own" / "a", 8, (10, 10, 10))
    fill(tmp_path / "own" / "b", 4, (90, 90, 90))
    first, again, other = (imagefolder(tmp_path, **SETTINGS | {"folder": "own", "seed": s}) for s in (0, 0, 1))
    assert first.test.labels.tolist() == [0, 0, 1] and len(first.train) == 9
    assert torch.equal(first.train.pixels, again.train.pixels)
    assert len(other.test) == 3


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (lambda t: (t / "train" / "red" / "0.png").write_bytes(b"no image"), "0.png is no image that can be read"),
        (lambda t: cut_short(t / "train" / "red" / "0.png"), "0.png is no image that can be read"),
        (lambda t: (t / "train" / "empty").mkdir(), "empty holds no images"),
        (lambda t: fill(t / "val" / "green", 1, (0, 250, 0)), "green, of which train/ has no images"),
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


@pytest.mark.parametrize(("name", "value"), [("size", 0), ("size", 5000), ("test_share", 0.0), ("test_share", 1.0)])
def test_settings_out_of_bounds_are_refused(tmp_path, name, value):
    fill(tmp_path / "a", 3, (1, 1, 1))
    fill(tmp_path / "b", 3, (2, 2, 2))
    with pytest.raises(SettingError, match=name):
        imagefolder(tmp_path, **SETTINGS | {name: value})
