"""SVHN: MATLAB files, unpacked no further than they can be, labels from 0."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
import torchvision
from scipy.io import savemat

from mint_cli.dataset import svhn as module
from mint_cli.dataset.svhn import svhn
from mint_cli.errors import DataError

SETTINGS = {"validation": 2, "seed": 0, "padding": 4, "flip": False}
SETTINGS |= {"mean": [0.5] * 3, "std": [0.2] * 3}
RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (32, 32, 3, 6), np.uint8)
Y = np.array([[1], [9], [10], [2], [10], [3]], np.uint8)


@pytest.fixture(params=[True, False], ids=["compressed", "plain"])
def root(request, tmp_path):
    savemat(tmp_path / "train_32x32.mat", {"X": X, "y": Y}, do_compression=request.param)
    savemat(tmp_path / "test_32x32.mat", {"X": X[..., :2], "y": Y[:2].astype(float)})
    return tmp_path


def test_images_come_as_planes_and_the_label_10_is_the_digit_0(root):
    splits = svhn(root, **SETTINGS | {"validation": 0})
    assert splits.classes == 10 and splits.train.labels.tolist() == [1, 9, 0, 2, 0, 3]
    assert splits.train.pixels.shape == (6, 3, 32, 32) and splits.test.labels.tolist() == [1, 9]
    assert (splits.train.pixels[4, 2].numpy() == X[:, :, 2, 4]).all()
    assert splits.train.padding == 4 and not splits.test.padding
    assert len(svhn(root, **SETTINGS).validation) == 2


def bomb() -> bytes:
    """A file of forty kilobytes whose X would unpack to 40 MB."""
    zeros = zlib.compress(struct.pack("<II", 14, 4 * 10**7) + bytes(4 * 10**7))
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x100) + b"IM"
    return head + struct.pack("<II", 15, len(zeros)) + zeros


CRAFTED = {
    "another shape": ({"X": X[:16], "y": Y}, r"X must be uint8 \(32, 32, 3, n\), not uint8"),
    "floats": ({"X": X.astype(float), "y": Y}, "X must be uint8"),
    "no X": ({"y": Y}, r"X must be uint8 .*, not none \(\)"),
    "fewer labels": ({"X": X, "y": Y[:3]}, r"y must be numbers \(6, 1\)"),
    "texts": ({"X": X, "y": np.array(["a"] * 6)}, "y must be numbers"),
    "a label 0": ({"X": X, "y": Y * 0}, "labels must be whole numbers from 1 to 10"),
    "half a label": ({"X": X, "y": Y / 2}, "labels must be whole numbers from 1 to 10"),
}


@pytest.mark.parametrize("content, told", CRAFTED.values(), ids=CRAFTED)
def test_a_file_of_other_content_is_named_with_what_is_wrong(tmp_path, content, told):
    for name in ("train_32x32.mat", "test_32x32.mat"):
        savemat(tmp_path / name, content)
    with pytest.raises(DataError, match=f"train_32x32.mat is damaged: .*{told}"):
        svhn(tmp_path, **SETTINGS)


@pytest.mark.parametrize("left", [0, 100, 140, 3000, -1])
def test_a_file_that_ends_early_is_named(root, left):
    path = root / "train_32x32.mat"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DataError, match="train_32x32.mat is damaged"):
        svhn(root, **SETTINGS)


def test_no_more_is_unpacked_than_such_a_file_can_hold(tmp_path, monkeypatch):
    savemat(tmp_path / "test_32x32.mat", {"X": X, "y": Y})
    (tmp_path / "train_32x32.mat").write_bytes(bomb())
    monkeypatch.setattr(module, "LARGEST", 2**22)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="unpacks to more than the 4,194,304 bytes"):
            svhn(tmp_path, **SETTINGS)
        assert tracemalloc.get_traced_memory()[1] < 3 * 2**22
    finally:
        tracemalloc.stop()


def test_missing_files_are_told_with_the_folder_and_their_names(tmp_path, monkeypatch):
    def no_network(*arguments, **settings):
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets, "SVHN", no_network)
    with pytest.raises(DataError, match="SVHN is not in .*train_32x32.mat, test_32x32.mat"):
        svhn(tmp_path, **SETTINGS)


def test_pixels_lie_in_memory_as_others_do(root):
    assert svhn(root, **SETTINGS).test.pixels.is_contiguous(memory_format=torch.contiguous_format)
