"""Threads of the compiled loops: as many as torch has, and torch has as many afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from numba import config, set_num_threads


@contextmanager
def as_many_as_torch() -> Iterator[None]:
    """Within it numba's loops run on as many threads as torch has, or as numba was started with.

    The first such loop raises the number that OpenMP gives to torch, too; sums depend on it, and
    the key of a result names it, so it is put back.
    """
    threads = torch.get_num_threads()
    set_num_threads(min(threads, config.NUMBA_NUM_THREADS))
    try:
        yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
