import gzip
import os
import struct
import tracemalloc
import zlib

import pytest
import torch
import torchvision
from commandline import mnist_root

from mint_cli.data.splits import checked
from mint_cli.dataset.mnist import mnist, unpacked
from mint_cli.errors import DataError, SettingError

SETTINGS = {"variant": "MNIST", "validation": 2, "seed": 0, "mean": [0.0], "std": [1.0]}
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(shape, values, kind=8):
    return struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape) + bytes(values)


@pytest.fixture
def root(tmp_path):
    for variant in ("MNIST", "FashionMNIST"):
        raw = tmp_path / variant / "raw"
        raw.mkdir(parents=True)
        for part, n in (("train", 6), ("t10k", 3)):
            pixels = idx((n, 28, 28), [i % 256 for i in range(n * 784)])
            (raw / f"{part}-images-idx3-ubyte").write_bytes(pixels)
            (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx((n,), range(n)))
    return tmp_path


@pytest.fixture
def raw(root):
    return root / "MNIST" / "raw"


def gzipped(path, content):
    """Put a gzipped file of that content in the place of a plain one."""
    path.with_name(path.name + ".gz").write_bytes(content)
    path.unlink()


def test_fashion_mnist_is_read_from_a_folder_of_its_own_and_gzipped_files_too(root):
    victim = root / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte"
    gzipped(victim, gzip.compress(idx((3,), [9, 8, 7])))
    assert mnist(root, **{**SETTINGS, "variant": "FashionMNIST"}).test.labels.tolist() == [9, 8, 7]
    assert mnist(root, **SETTINGS).test.labels.tolist() == [0, 1, 2]


def test_idx_files_are_read_value_by_value(root):
    splits = mnist(root, **SETTINGS)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (4, 2, 3)
    assert splits.test.labels.tolist() == [0, 1, 2]
    assert splits.test.pixels[0, 0].flatten()[:300].tolist() == [i % 256 for i in range(300)]
    assert splits.test.pixels.shape == (3, 1, 28, 28)


PIXELS = bytes(6 * 784)
DAMAGED = {
    "cut": (IMAGES, idx((6, 28, 28), PIXELS[:-1]), "4,703 bytes follow its header, .* 6 items"),
    "longer": (
        IMAGES,
        idx((6, 28, 28), PIXELS + b"1"),
        "4,705 bytes follow its header, .* 6 items",
    ),
    "another magic number": (IMAGES, idx((6, 28, 28), PIXELS, kind=13), "starts with 00000d03"),
    "another rank": (IMAGES, idx((6, 784), PIXELS), "starts with 00000802"),
    "another size": (IMAGES, idx((6, 14, 56), PIXELS), "starts with .*0000000e00000038, not with"),
    "labels for images": (IMAGES, idx((6,), range(6)), "starts with 00000801"),
    "images for labels": (LABELS, idx((6, 28, 28), PIXELS), "starts with 00000803"),
    "no images": (IMAGES, idx((0, 28, 28), b""), "0 items, which must be 1 to 60,000"),
    "too many": (LABELS, idx((60_001,), bytes(60_001)), "60,001 items|than the 60,008 bytes"),
    "half a header": (IMAGES, b"\0\0\x08\x03\0\0", "starts with 000008030000"),
    "nothing": (IMAGES, b"", "starts with , not"),
    "a large label": (
        LABELS,
        idx((6,), [1, 2, 3, 4, 5, 10]),
        "labels must lie between 0 and 9, not 10",
    ),
}


@pytest.mark.parametrize("name, content, message", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_file_is_named_with_what_is_wrong(root, raw, name, content, message, packed):
    if packed:
        gzipped(raw / name, gzip.compress(content))
    else:
        (raw / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}{'.gz' * packed} is damaged: .*({message})"):
        mnist(root, **SETTINGS)


def test_unequal_numbers_of_images_and_labels_are_told_with_both_files(root, raw):
    (raw / LABELS).write_bytes(idx((5,), range(5)))
    with pytest.raises(DataError, match=f"{IMAGES} has 6 images, but .*{LABELS} 5 labels"):
        mnist(root, **SETTINGS)


def damaged_streams():
    packed = gzip.compress(idx((6, 28, 28), os.urandom(6 * 784)))
    yield "middle", packed[:2000] + bytes(60) + packed[2060:]
    yield "cut", packed[:-9]
    yield "without check sum", packed[:-8]
    yield "check sum", packed[:-8] + bytes(8)
    yield "followed", packed + b"more"
    yield "no gzip", b"plain text"
    yield "empty", b""


@pytest.mark.parametrize("content", [c for _, c in damaged_streams()], ids=dict(damaged_streams()))
def test_a_damaged_gzip_stream_is_named(root, raw, content):
    gzipped(raw / IMAGES, content)
    with pytest.raises(DataError, match=f"{IMAGES}.gz is damaged"):
        mnist(root, **SETTINGS)


def bomb(size, step=2**20):
    """A gzip stream of zeros."""
    stream = zlib.compressobj(wbits=31)
    return b"".join(stream.compress(bytes(step)) for _ in range(size // step)) + stream.flush()


def test_a_stream_that_unpacks_to_more_than_the_data_set_has_is_refused_early(root, raw):
    gzipped(raw / LABELS, bomb(2**25))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=f"{LABELS}.gz is damaged: it unpacks to more .*60,008"):
            mnist(root, **SETTINGS)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_stream_of_just_the_allowed_size_is_unpacked():
    assert unpacked(gzip.compress(bytes(1000)), 1000) == bytes(1000)
    with pytest.raises(ValueError, match="more than the 999 bytes"):
        unpacked(gzip.compress(bytes(1000)), 999)


def test_a_file_larger_than_sixty_thousand_images_is_refused_unread(root, raw):
    with open(raw / IMAGES, "r+b") as file:
        file.truncate(2**40)
    with pytest.raises(DataError, match=f"{IMAGES} has 1,099,511,627,776 bytes"):
        mnist(root, **SETTINGS)


def test_a_pipe_in_a_files_place_is_refused_by_name(root, raw):
    (raw / LABELS).unlink()
    os.mkfifo(raw / LABELS)
    with pytest.raises(DataError, match=f"{LABELS} is a pipe"):
        mnist(root, **SETTINGS)


def test_links_in_a_circle_are_refused_by_name_and_nothing_is_downloaded(root, raw, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "MNIST", None)
    (raw / LABELS).unlink()
    (raw / LABELS).symlink_to(raw / LABELS)
    with pytest.raises(DataError, match=f"{LABELS} cannot be read: Too many levels"):
        mnist(root, **SETTINGS)


@pytest.mark.parametrize(
    "setting, value, message",
    [
        ("variant", "KMNIST", "variant must be one of MNIST, FashionMNIST, not KMNIST"),
        ("validation", 5, "validation must lie between 0 and 4 of the 6 training images, not 5"),
        ("seed", -1, "seed must be at least 0, not -1"),
        ("std", [float("inf")], r"std must be .*, not \[inf\]"),
    ],
)
def test_a_setting_out_of_its_bounds_is_named_with_bound_and_value(root, setting, value, message):
    with pytest.raises(SettingError, match=f"^{message}$"):
        mnist(root, **{**SETTINGS, setting: value})


def test_missing_files_are_told_with_the_folder_and_their_names(tmp_path, monkeypatch):
    def no_network(*arguments, **settings):
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets, "MNIST", no_network)
    with pytest.raises(DataError, match=rf"MNIST/raw.*{IMAGES}.*t10k-labels-idx1-ubyte"):
        mnist(tmp_path, **SETTINGS)


def test_files_that_are_still_missing_after_a_download_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "MNIST", lambda *arguments, **settings: None)
    with pytest.raises(DataError, match=f"{IMAGES} cannot be read: No such file"):
        mnist(tmp_path, **SETTINGS)


def test_the_real_files_hold_60000_and_10000_images():
    splits = checked(mnist(mnist_root(), **{**SETTINGS, "validation": 5000}), "mnist")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (55000, 5000, 10000)
    assert splits.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert torch.equal(splits.test.labels.bincount()[:2], torch.tensor([980, 1135]))
