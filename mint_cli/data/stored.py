"""Pixels that lie in files: read once and kept in memory, or read whenever they are wanted."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mint_cli import machine
from mint_cli.data import files
from mint_cli.errors import DataError

AHEAD = 2  # batches that are being read while another is used


class File(NamedTuple):
    """A file of one image, as it was when it was found: size in bytes, time in nanoseconds."""

    path: Path
    size: int
    time: int

    @classmethod
    def at(cls, path: Path) -> File:
        """The regular file at ``path``; DataError if there is none."""
        files.regular(path)
        found = os.stat(path)
        return cls(path, found.st_size, found.st_mtime_ns)

    def check(self) -> None:
        """DataError if the file is no longer what it was: results would be of no known data."""
        if File.at(self.path) != self:
            raise DataError(f"{self.path} has changed since the run began")


Read = Callable[[Path], Tensor]


@dataclass(frozen=True)
class Stored:
    """Pixels in files, a file an image; takes the place of a tensor, uint8 (n, c, h, w).

    ``read`` gives the pixels of one file, uint8 (c, h, w), and ``decoded`` says in words all that
    they depend on beside the file.  ``held`` are the pixels of all files, or None: then memory does
    not grow with their number, and every use reads them again.
    """

    files: tuple[File, ...]
    read: Read
    decoded: str
    size: tuple[int, int, int]
    held: Tensor | None = None
    device: torch.device = torch.device("cpu")

    dtype = torch.uint8
    ndim = 4

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.files), *self.size))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Pixels of the images of those numbers, in that order."""
        return next(self.batches([index]))

    def kept(self) -> Stored:
        """The same, all read and kept in memory."""
        every = torch.arange(len(self)).split(64)
        held = torch.empty(self.shape, dtype=torch.uint8)
        for index, pixels in zip(every, self.batches(every), strict=True):
            held[index] = pixels
        return replace(self, held=held)

    def to(self, device: torch.device | str) -> Stored:
        """The same; what it gives lies on ``device``."""
        held = None if self.held is None else self.held.to(device)
        return replace(self, held=held, device=torch.device(device))

    def take(self, index: Tensor) -> Stored:
        """The images of those numbers, unread if they are not in memory."""
        held = None if self.held is None else self.held[index.to(self.device)]
        return replace(self, files=tuple(self.files[i] for i in index.tolist()), held=held)

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pixels of one batch of numbers after another; the next ones are being read meanwhile."""
        if self.held is not None:
            yield from (self.held[index.to(self.device)] for index in indices)
            return
        waiting: deque[list[Future]] = deque()
        pool = ThreadPoolExecutor(machine.cores())  # decoders let other threads run
        try:
            for index in indices:
                waiting.append([pool.submit(self._one, i) for i in index.tolist()])
                if len(waiting) > AHEAD:
                    yield self._together(waiting.popleft())
            while waiting:
                yield self._together(waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _one(self, number: int) -> Tensor:
        self.files[number].check()
        return self.read(self.files[number].path)

    def _together(self, reading: list[Future]) -> Tensor:
        made = torch.empty((len(reading), *self.size), dtype=self.dtype)
        for one, future in zip(made, reading, strict=True):
            one.copy_(future.result())
        return made.to(self.device)

    def digest(self) -> bytes:
        """SHA-256 of all that the pixels depend on: what the files hold, and how it is read."""
        total = hashlib.sha256(repr((self.decoded, tuple(self.shape))).encode())
        with ThreadPoolExecutor(machine.cores()) as pool:
            for one in pool.map(content, self.files):
                total.update(one)
        return total.digest()


def content(file: File) -> bytes:
    """SHA-256 of what a file holds."""
    file.check()
    with open(file.path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()
