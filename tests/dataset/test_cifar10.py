import pickle

import numpy as np
import pytest
import torch
import torchvision
from commandline import cifar10_root
from pickles import batch, dtype, matrix, number, state

from mint_cli.data.splits import checked
from mint_cli.dataset.cifar10 import CIFAR10, cifar10
from mint_cli.errors import DataError, SettingError

SETTINGS = {"validation": 5, "subset": None, "seed": 0, "padding": 4, "flip": True}
SETTINGS |= {"mean": [0.5] * 3, "std": [0.2] * 3}
SIZE = 3072
FOLDER, TRAIN, TEST = CIFAR10.folder, CIFAR10.train, CIFAR10.test


@pytest.fixture
def root(tmp_path):
    (tmp_path / FOLDER).mkdir()
    rng = np.random.default_rng(0)
    for name in TRAIN + TEST:
        pixels = rng.integers(0, 256, 4 * SIZE, np.uint8).tobytes()
        (tmp_path / FOLDER / name).write_bytes(batch(matrix(pixels, (4, SIZE)), [0, 1, 2, 3]))
    return tmp_path


def test_batches_are_joined_in_order_and_pixels_are_planes_of_red_green_blue(root):
    splits = cifar10(root, **SETTINGS)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (15, 5, 4)
    raw = pickle.loads((root / FOLDER / TEST[0]).read_bytes(), encoding="bytes")[b"data"]
    assert (splits.test.pixels[1, 2].numpy() == raw[1, 2048:].reshape(32, 32)).all()
    assert (splits.train.padding, splits.train.flip) == (4, True)
    assert (splits.test.padding, splits.test.flip) == (0, False)
    first = pickle.loads((root / FOLDER / TRAIN[0]).read_bytes(), encoding="bytes")[b"data"]
    whole = cifar10(root, **{**SETTINGS, "validation": 0}).train
    assert (whole.pixels[:4].flatten(1).numpy() == first).all()
    assert whole.labels.tolist() == [0, 1, 2, 3] * 5


def test_batches_that_python_3_has_written_are_read_too(root):
    expected = cifar10(root, **SETTINGS)
    for name in TRAIN + TEST:
        path = root / FOLDER / name
        path.write_bytes(
            pickle.dumps(pickle.loads(path.read_bytes(), encoding="bytes"), protocol=4)
        )
    splits = cifar10(root, **SETTINGS)
    assert torch.equal(splits.train.pixels, expected.train.pixels)
    assert torch.equal(splits.train.labels, expected.train.labels)


def test_a_subset_has_images_of_every_class_in_train_and_test(root):
    splits = cifar10(root, **{**SETTINGS, "subset": 4, "validation": 0})
    assert splits.train.labels.tolist() == splits.test.labels.tolist() == [0, 1, 2, 3]
    splits = cifar10(root, **{**SETTINGS, "subset": 3, "validation": 0})
    assert splits.train.labels.tolist() == splits.test.labels.tolist() == [0, 1, 2]
    splits = cifar10(root, **{**SETTINGS, "subset": 6, "validation": 1})
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (5, 1, 4)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"subset": 0}, "subset must be null or lie between 2 and 20, not 0"),
        ({"subset": 1}, "subset must be null or lie between 2 and 20, not 1"),
        ({"subset": 21}, "subset must be null or lie between 2 and 20, not 21"),
        ({"subset": 4}, "validation must lie between 0 and 2 of the 4 training images, not 5"),
        ({"padding": 32}, "padding must be a whole number from 0 to 31, .*, not 32"),
        ({"padding": -1}, "padding must be a whole number from 0 to 31, .*, not -1"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"std": [0.2]}, r"std must be .* \(3\), not \[0.2\]"),
    ],
)
def test_a_setting_out_of_its_bounds_is_named_with_bound_and_value(root, settings, message):
    with pytest.raises(SettingError, match=f"^{message}$"):
        cifar10(root, **{**SETTINGS, **settings})


def whole(count):
    return matrix(bytes(count * SIZE), (count, SIZE))


DAMAGED = {
    "no end": (batch(whole(2), [1, 2])[:-1], "exhausted"),
    "half of it": (batch(whole(2), [1, 2])[:3000], "expected 6144 bytes"),
    "another dtype": (
        batch(matrix(bytes(SIZE), (1, SIZE), dtype(b"i1", state())), [1]),
        "matrix of bytes",
    ),
    "a dtype with a state": (
        batch(matrix(bytes(SIZE), (1, SIZE), dtype(b"u1", state(8))), [1]),
        "matrix",
    ),
    "narrow images": (batch(matrix(bytes(6), (2, 3)), [1, 2]), "no matrix of 3072 bytes an image"),
    "no images": (batch(whole(0), []), "0 images, which must be 1 to 10000"),
    "many images": (batch(whole(10_001), [1] * 10_001), "10001 images, which must be 1 to 10000"),
    "fewer labels": (batch(whole(3), [1, 2]), "labels are no list of 3"),
    "more labels": (batch(whole(1), [1, 2]), "labels are no list of 1"),
    "a large label": (batch(whole(2), [1, 10]), "whole numbers from 0 to 9"),
    "a negative label": (batch(whole(2), [-1, 1]), "whole numbers from 0 to 9"),
    "no data": (b"\x80\x02}.", "no dictionary with data and labels"),
    "a list": (b"\x80\x02].", "no dictionary with data and labels"),
    "data of text": (batch(b"U\x03abc", [1]), "no matrix of 3072 bytes an image"),
    "labels of truth": (
        pickle.dumps({b"data": np.zeros((1, SIZE), np.uint8), b"labels": [True]}, 4),
        "whole",
    ),
    "labels of text": (
        batch(whole(2), [1, 2]).replace(b"](" + number(1) + number(2) + b"e", b"U\x02ab"),
        "no list of 2",
    ),
    "code": (b"\x80\x02cos\nsystem\nU\x04true\x85R.", r"it asks for os\.system"),
    "nothing": (b"", "exhausted"),
}


@pytest.mark.parametrize("content, message", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_batch_is_named_with_what_is_wrong(root, content, message):
    (root / FOLDER / "data_batch_3").write_bytes(content)
    with pytest.raises(DataError, match=f"data_batch_3 is damaged: .*({message})"):
        cifar10(root, **SETTINGS)


def test_a_file_larger_than_ten_thousand_images_is_refused_unread(root):
    with open(root / FOLDER / "test_batch", "r+b") as file:
        file.truncate(CIFAR10.largest + 1)
    with pytest.raises(DataError, match="test_batch has 31,720,001 bytes.* 31,720,000 at most"):
        cifar10(root, **SETTINGS)


def test_a_folder_in_a_files_place_is_refused_by_name_and_nothing_is_downloaded(root, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", None)
    (root / FOLDER / "data_batch_2").unlink()
    (root / FOLDER / "test_batch").unlink()
    (root / FOLDER / "test_batch").mkdir()
    with pytest.raises(DataError, match="test_batch is a folder"):
        cifar10(root, **SETTINGS)


def test_missing_files_are_told_with_the_folder_and_their_names(tmp_path, monkeypatch):
    def no_network(*arguments, **settings):
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", no_network)
    with pytest.raises(DataError, match=rf"{FOLDER} and could not .*data_batch_1.*test_batch"):
        cifar10(tmp_path, **SETTINGS)


def test_the_real_files_hold_50000_and_10000_images_of_ten_classes():
    splits = checked(cifar10(cifar10_root(), **{**SETTINGS, "validation": 5000}), "cifar10")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (45000, 5000, 10000)
    counts = splits.train.labels.bincount() + splits.validation.labels.bincount()
    assert counts.tolist() == [5000] * 10 and splits.test.labels[:4].tolist() == [3, 8, 8, 0]
    mean = splits.test.pixels.double().mean((0, 2, 3)) / 255
    assert torch.allclose(mean, torch.tensor([0.4942, 0.4851, 0.4504]).double(), atol=1e-4)
