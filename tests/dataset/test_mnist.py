import gzip
import struct

import pytest
import torch
from commandline import mnist_root

from mint_cli.dataset import mnist as module
from mint_cli.dataset.mnist import mnist
from mint_cli.errors import DataError

SETTINGS = {"variant": "MNIST", "validation": 2, "seed": 0, "mean": [0.0], "std": [1.0]}


def write_idx(path, shape, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + bytes(values))


@pytest.fixture
def root(tmp_path):
    for variant in ("MNIST", "FashionMNIST"):
        for part, n in (("train", 6), ("t10k", 3)):
            write_idx(tmp_path / variant / "raw" / f"{part}-images-idx3-ubyte", (n, 28, 28), [i % 256 for i in range(n * 784)])
            write_idx(tmp_path / variant / "raw" / f"{part}-labels-idx1-ubyte", (n,), list(range(n)))
    return tmp_path


def test_fashion_mnist_is_read_from_a_folder_of_its_own_and_gzipped_files_too(root):
    victim = root / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte"
    victim.with_name(victim.name + ".gz").write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 3, 9, 8, 7])))
    victim.unlink()
    assert mnist(root, **{**SETTINGS, "variant": "FashionMNIST"}).test.labels.tolist() == [9, 8, 7]
    assert mnist(root, **SETTINGS).test.labels.tolist() == [0, 1, 2]


def test_idx_files_are_read_value_by_value(root):
    splits = mnist(root, **SETTINGS)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (4, 2, 3)
    assert splits.test.labels.tolist() == [0, 1, 2] and splits.test.pixels[0, 0].flatten()[:300].tolist() == [i % 256 for i in range(300)]


def test_a_damaged_file_is_named(root):
    victim = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is damaged"):
        mnist(root, **SETTINGS)


def test_a_gzipped_file_with_a_damaged_middle_is_named(root):
    victim = root / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    packed = bytearray(gzip.compress(victim.read_bytes()))
    packed[len(packed) // 2 : len(packed) // 2 + 60] = bytes(60)
    victim.with_name(victim.name + ".gz").write_bytes(packed)
    victim.unlink()
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte.gz is damaged"):
        mnist(root, **SETTINGS)


def test_missing_files_are_told_with_the_folder_and_their_names(tmp_path, monkeypatch):
    import torchvision

    def no_network(*arguments, **settings):
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets, "MNIST", no_network)
    with pytest.raises(DataError, match=r"MNIST/raw.*train-images-idx3-ubyte.*t10k-labels-idx1-ubyte"):
        module.mnist(tmp_path, **SETTINGS)


def test_the_real_files_hold_60000_and_10000_images():
    splits = mnist(mnist_root(), **{**SETTINGS, "validation": 5000})
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (55000, 5000, 10000)
    assert splits.test.labels[:5].tolist() == [7, 2, 1, 0, 4] and torch.equal(splits.test.labels.bincount()[:2], torch.tensor([980, 1135]))
