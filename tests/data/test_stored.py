"""Pixels in files are the same in memory or read as needed; what is read is what was found."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mint_cli.data import images as im
from mint_cli.data import stored
from mint_cli.data.stored import File, Stored
from mint_cli.errors import DataError
from mint_cli.protocol import Images

READ = []


def read(path: Path) -> torch.Tensor:
    READ.append(path.name)
    return torch.from_numpy(np.frombuffer(path.read_bytes(), np.uint8).reshape(3, 4, 4).copy())


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(
        0, 256, (30, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


@pytest.fixture
def files(tmp_path, pixels) -> Stored:
    for i, one in enumerate(pixels):
        (tmp_path / f"{i:02}").write_bytes(one.numpy().tobytes())
    READ.clear()
    return Stored(tuple(File.at(p) for p in sorted(tmp_path.iterdir())), read, "raw", (3, 4, 4))


def test_pixels_in_files_are_those_of_a_tensor_in_memory_or_not(files, pixels):
    index = torch.tensor([3, 0, 29, 3])
    for own in (files, files.kept()):
        assert own.shape == pixels.shape and len(own) == 30
        assert torch.equal(own[index], pixels[index])
        assert torch.equal(own.take(index)[torch.arange(4)], pixels[index])
        assert own[torch.arange(0)].shape == (0, 3, 4, 4)


def test_every_batch_of_every_transform_is_the_same_bit_for_bit(files, pixels):
    plain = Images(pixels, torch.arange(30) % 3, padding=2, flip=True)
    index = torch.randperm(30, generator=torch.Generator().manual_seed(1)).split(7)
    draws = im.draw(plain, 30, np.random.default_rng(0))
    for own in (replace(plain, pixels=files), replace(plain, pixels=files.kept())):
        pairs = (
            (im.plains(plain, index), im.plains(own, index)),
            (im.views(plain, index, draws), im.views(own, index, draws)),
            *([im.augmentations(x, index, np.random.default_rng(2)) for x in (plain, own)],),
        )
        for wanted, got in pairs:
            for a, b in zip(wanted, got, strict=True):
                assert torch.equal(a, b)


def test_what_is_in_memory_is_read_once_and_what_is_not_at_every_use(files):
    kept = files.kept()
    assert sorted(READ) == [f"{i:02}" for i in range(30)]
    kept[torch.tensor([1])], kept.take(torch.tensor([2]))[torch.tensor([0])]
    assert len(READ) == 30
    for _ in range(2):
        files[torch.tensor([1, 2])]
    assert len(READ) == 34


def test_no_more_than_a_few_batches_are_read_ahead(files):
    batches = files.batches(torch.arange(30).split(2))
    next(batches)
    batches.close()  # waits for what has begun
    assert len(READ) <= 2 * (stored.AHEAD + 1)


def test_taking_images_reads_none(files):
    assert len(files.take(torch.arange(20))) == 20 and not READ


def test_the_digest_is_that_of_the_files_in_order_and_of_how_they_are_read(files, tmp_path):
    found = files.digest()
    assert files.kept().digest() == found
    os.utime(files.files[0].path, ns=(1, 1))
    moved = replace(files, files=tuple(File.at(f.path) for f in files.files))
    assert moved.digest() == found  # a copy of the same folder is the same data
    order = torch.arange(30)
    order[:2] = torch.tensor([1, 0])
    assert moved.take(order).digest() != found
    assert replace(moved, decoded="otherwise").digest() != found
    (tmp_path / "00").write_bytes(bytes(48))
    changed = replace(files, files=tuple(File.at(f.path) for f in files.files))
    assert changed.digest() != found


@pytest.mark.parametrize("use", [lambda s: s[torch.tensor([4])], lambda s: s.digest()])
def test_a_file_that_changes_during_a_run_stops_it_by_name(files, tmp_path, use):
    (tmp_path / "04").write_bytes(bytes(49))
    with pytest.raises(DataError, match="04 has changed since the run began"):
        use(files)
    (tmp_path / "04").unlink()
    with pytest.raises(DataError, match="04 cannot be read"):
        use(files)
