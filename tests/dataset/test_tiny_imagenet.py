"""Tiny ImageNet: classes by folder, test images by a list of labels, bad files named."""

import numpy as np
import pytest
from PIL import Image

from mint_cli.dataset.tiny_imagenet import tiny_imagenet
from mint_cli.errors import DataError

SETTINGS = {"validation": 0, "seed": 0, "padding": 8, "flip": True}
SETTINGS |= {"mean": [0.5] * 3, "std": [0.2] * 3}
NAMES = ("n02", "n01", "n30")


def save(path, level: int, side: int = 64, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), level, np.uint8)).convert(mode).save(path, "JPEG")


@pytest.fixture
def folder(tmp_path):
    own = tmp_path / "tiny-imagenet-200"
    for k, name in enumerate(NAMES):
        for i in range(2):
            path = own / "train" / name / "images" / f"{name}_{i}.JPEG"
            save(path, 40 * k, mode="L" if i else "RGB")
        (own / "train" / name / f"{name}_boxes.txt").write_text("a box\n")
        save(own / "val" / "images" / f"val_{k}.JPEG", 40 * k)
    listed = [f"val_{k}.JPEG\t{name}\t0\t0\t62\t62\n" for k, name in enumerate(NAMES)]
    (own / "val" / "val_annotations.txt").write_text("".join(reversed(listed)))
    return own


def test_classes_go_by_name_and_test_images_by_the_list_of_their_labels(folder):
    splits = tiny_imagenet(folder.parent, **SETTINGS)
    assert splits.classes == 3 and splits.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert splits.test.labels.tolist() == [2, 0, 1]
    levels = splits.train.pixels.float().mean((1, 2, 3)).round().tolist()
    assert levels == [40, 40, 0, 0, 80, 80] and splits.train.pixels.shape[1:] == (3, 64, 64)
    assert splits.test.pixels.float().mean((1, 2, 3)).round().tolist() == [80, 40, 0]
    assert splits.train.padding == 8 and not splits.test.flip


def listed(folder, text: str) -> None:
    (folder / "val" / "val_annotations.txt").write_text(text)


BROKEN = {
    "a class without images": (
        lambda f: [p.unlink() for p in (f / "train" / "n01" / "images").iterdir()],
        "n01/images holds no images",
    ),
    "another size": (
        lambda f: save(f / "train" / "n02" / "images" / "n02_0.JPEG", 3, 32),
        "n02_0.JPEG is no image that can be read: it has 32×32 pixels, not 64×64",
    ),
    "no image": (
        lambda f: (f / "val" / "images" / "val_1.JPEG").write_bytes(b"GIF89a"),
        "val_1.JPEG is no image that can be read",
    ),
    "a missing image": (
        lambda f: (f / "val" / "images" / "val_1.JPEG").unlink(),
        "val_1.JPEG cannot be read: No such file",
    ),
    "an unknown class": (lambda f: listed(f, "val_0.JPEG\tn99\t0\n"), "damaged: line 1 must have"),
    "an image named twice": (
        lambda f: listed(f, "val_0.JPEG\tn01\nval_0.JPEG\tn02\n"),
        "damaged: line 2 must have the name of one more image",
    ),
    "a path": (lambda f: listed(f, "../../x.JPEG\tn01\n"), "damaged: line 1"),
    "no tabulator": (lambda f: listed(f, "val_0.JPEG n01\n"), "damaged: line 1"),
    "an empty list": (lambda f: listed(f, ""), "val_annotations.txt names no images"),
    "no list": (
        lambda f: (f / "val" / "val_annotations.txt").unlink(),
        "val_annotations.txt cannot be read",
    ),
    "no text": (
        lambda f: (f / "val" / "val_annotations.txt").write_bytes(b"\xff\xfe\x00"),
        "damaged: it is no text",
    ),
}


@pytest.mark.parametrize("break_it, told", BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_used_is_named(folder, break_it, told):
    break_it(folder)
    with pytest.raises(DataError, match=told):
        tiny_imagenet(folder.parent, **SETTINGS)


def test_a_folder_that_is_missing_is_told_with_what_belongs_there(tmp_path):
    with pytest.raises(DataError, match="Tiny ImageNet is not in .*tiny-imagenet-200; expected"):
        tiny_imagenet(tmp_path, **SETTINGS)
    (tmp_path / "tiny-imagenet-200" / "train" / "n01").mkdir(parents=True)
    with pytest.raises(DataError, match="two or more classes"):
        tiny_imagenet(tmp_path, **SETTINGS)
