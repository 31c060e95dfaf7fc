"""What a data set gives: checked where it enters, and told apart by its content."""

from __future__ import annotations

import hashlib
import logging
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from mint_cli.data.images import LEFT, batches, check_normalisation, check_transform
from mint_cli.data.stored import Stored
from mint_cli.errors import DataError, SettingError, owned
from mint_cli.protocol import Images, Splits

log = logging.getLogger(__name__)

LEAST = {"train": LEFT, "validation": 0, "test": 1}  # images that each part must have
CHUNK = 2**24  # bytes hashed at once


def checked(splits: Splits, name: str) -> Splits:
    """The splits that the data set ``name`` has returned, as they are; DataError if unusable.

    Warns of what can be meant but seldom is: classes without training images, pixels of 0 and 1.
    """
    try:
        check(splits)
    except SettingError as error:
        raise DataError(f"data set {name} returned images that cannot be used: {error}") from error
    found = set(splits.train.labels.unique().tolist())
    if len(found) < splits.classes:
        missing = [*islice((c for c in range(splits.classes) if c not in found), 10)]
        without = f"{splits.classes - len(found)} of its {splits.classes} classes"
        log.warning("data set %s has no training image of %s, as of %s", name, without, missing)
    every = torch.arange(len(splits.train)).split(100)
    if all(pixels.max() <= 1 for pixels in batches(splits.train, every)):  # seldom beyond the first
        log.warning("data set %s has no training pixel above 1, where white is 255", name)
    return splits


def check(splits: Splits) -> None:
    """SettingError for the first thing that is not as ``protocol.Splits`` and ``Images`` say."""
    expect(isinstance(splits, Splits), "splits", "must be a Splits", type(splits).__name__)
    whole = type(splits.classes) is int and splits.classes >= 2
    expect(whole, "classes", "must be a whole number of at least 2", splits.classes)
    for part, least in LEAST.items():
        images = getattr(splits, part)
        expect(isinstance(images, Images), part, "must be Images", type(images).__name__)
        with owned(part):
            check_images(images, splits.classes)
            expect(len(images) >= least, "images", f"must be {least} or more", len(images))
            check_transform(images)
        given, wanted = tuple(images.pixels.shape[1:]), tuple(splits.train.pixels.shape[1:])
        expect(given == wanted, f"{part}.pixels", f"must be of the size of train, {wanted}", given)
    check_normalisation(splits.mean, splits.std, splits.train.pixels.shape[1])


def check_images(images: Images, classes: int) -> None:
    """SettingError unless pixels and labels are of the right type, rank, number and range."""
    pixels, labels = images.pixels, images.labels
    scale = "must be uint8, 0 to 255, which the network divides by 255, with axes (n, c, h, w)"
    expect(is_tensor(pixels, torch.uint8, 4), "pixels", scale, described(pixels))
    expect(min(pixels.shape[1:]) > 0, "pixels", "must be at least 1 × 1", described(pixels))
    expect(is_tensor(labels, torch.int64, 1), "labels", "must be int64, (n,)", described(labels))
    number = f"must be as many as its images, {len(pixels)}"
    expect(len(labels) == len(pixels), "labels", number, len(labels))
    for label in (labels.min(), labels.max()) if len(labels) else ():
        expect(0 <= label < classes, "labels", f"must lie between 0 and {classes - 1}", int(label))


def expect(met: bool, setting: str, bound: str, value: Any) -> None:
    """SettingError unless the bound is met."""
    if not met:
        raise SettingError(setting, bound, value)


def is_tensor(value: Any, dtype: torch.dtype, axes: int) -> bool:
    """Whether a value is a tensor, or stands for one, of that type and rank."""
    return isinstance(value, Tensor | Stored) and value.dtype == dtype and value.ndim == axes


def described(value: Any) -> str:
    """Type and shape of what should be a tensor, in words."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def digest(splits: Splits) -> str:
    """A name for the content of all three splits: SHA-256 in hex.

    Every pixel and label, their shapes and types, the transforms, the classes and the normalisation
    count; the device and the order of axes in memory do not.  For pixels that lie in files, in
    memory or not, what these hold counts.
    """
    total = hashlib.sha256()
    normalisation = [[float(value) for value in values] for values in (splits.mean, splits.std)]
    total.update(repr((splits.classes, *normalisation)).encode())
    for part in LEAST:
        images = getattr(splits, part)
        for tensor in (images.pixels, images.labels):
            total.update(repr((part, tensor.dtype, tuple(tensor.shape))).encode())
            for chunk in chunks(tensor):
                total.update(chunk)
        total.update(repr((images.padding, images.flip)).encode())
    return total.hexdigest()


def chunks(tensor: Tensor | Stored):
    """The elements of a tensor as bytes, in order, little-endian, a few megabytes at a time."""
    if isinstance(tensor, Stored):
        yield tensor.digest()
        return
    size = max(1, tensor[:1].numel()) * tensor.element_size()
    for rows in tensor.split(max(1, CHUNK // size)):
        values = rows.cpu().contiguous().numpy()
        yield values.astype(values.dtype.newbyteorder("<"), copy=False)
