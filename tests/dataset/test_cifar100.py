"""CIFAR-100: fine labels of two batches, read as safely as those of CIFAR-10."""

import pickle

import numpy as np
import pytest
import torch
import torchvision

from mint_cli.dataset.cifar100 import CIFAR100, cifar100
from mint_cli.errors import DataError

SETTINGS = {"validation": 3, "subset": None, "seed": 0, "padding": 4, "flip": True}
SETTINGS |= {"mean": [0.5] * 3, "std": [0.2] * 3}


def batch(count: int, **changed) -> bytes:
    rng = np.random.default_rng(count)
    held = {
        "filenames": [f"{i}.png" for i in range(count)],
        "batch_label": "training batch 1 of 1",
        "fine_labels": [99 - i for i in range(count)],
        "coarse_labels": [i % 20 for i in range(count)],
        "data": rng.integers(0, 256, (count, 3072), np.uint8),
    }
    return pickle.dumps(held | changed, protocol=4)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    (folder / "train").write_bytes(batch(10))
    (folder / "test").write_bytes(batch(4))
    return tmp_path


def test_the_fine_labels_are_read_and_pixels_are_planes(root):
    splits = cifar100(root, **SETTINGS)
    assert splits.classes == 100 and splits.test.labels.tolist() == [99, 98, 97, 96]
    assert (len(splits.train), len(splits.validation)) == (7, 3)
    raw = pickle.loads((root / "cifar-100-python" / "test").read_bytes())["data"]
    assert torch.equal(splits.test.pixels, torch.from_numpy(raw).view(4, 3, 32, 32))
    assert (splits.train.padding, splits.test.padding) == (4, 0)


def test_as_many_images_as_are_published_have_room():
    """50,000 names and labels of both kinds are some 200,000 opcodes."""
    from mint_cli.data.pickled import plain

    count = 50_000
    held = {"filenames": [f"image_s_{i:06}.png" for i in range(count)]}
    held |= {"fine_labels": [i % 100 for i in range(count)], "coarse_labels": [3] * count}
    read = plain(pickle.dumps(held, protocol=2, fix_imports=True))
    assert read[b"fine_labels"] == held["fine_labels"]
    assert CIFAR100.largest > count * 3072 + len(pickle.dumps(held, protocol=2))


@pytest.mark.parametrize(
    "content, told",
    [
        (batch(3, fine_labels=[0, 1, 100]), "whole numbers from 0 to 99"),
        (batch(3, fine_labels=[0, 1]), "no list of 3"),
        (b"\x80\x02}.", "no dictionary with data and fine_labels"),
        (b"\x80\x02cos\nsystem\nU\x04true\x85R.", r"it asks for os\.system"),
        (batch(3)[:-1], "exhausted"),
    ],
)
def test_a_damaged_batch_is_named_with_what_is_wrong(root, content, told):
    (root / "cifar-100-python" / "train").write_bytes(content)
    with pytest.raises(DataError, match=f"cifar-100-python/train is damaged: .*{told}"):
        cifar100(root, **SETTINGS)


def test_missing_files_are_told_with_the_folder_and_their_names(tmp_path, monkeypatch):
    def no_network(*arguments, **settings):
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets, "CIFAR100", no_network)
    with pytest.raises(DataError, match="CIFAR-100 is not in .*cifar-100-python.*train, test"):
        cifar100(tmp_path, **SETTINGS)
