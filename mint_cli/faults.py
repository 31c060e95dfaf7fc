"""Faults that are the user's or the machine's to mend, each in one sentence."""

from __future__ import annotations

import os


def sentence(error: BaseException) -> str | None:
    """The sentence for a bad setting, unusable data, a file system that refuses, or memory that ran out; else None."""
    if is_a(error, "SettingError", "DataError"):
        return str(error)
    if is_a(error, "OutOfMemoryError"):
        return "the GPU ran out of memory; lower schedule.train.batch_size and schedule.retrain.batch_size, or pruner.samples_per_class"
    if isinstance(error, OSError) and (error.filename or error.errno):
        return f"cannot use {error.filename or 'a file'}: {os.strerror(error.errno) if error.errno else error}"
    return None


def is_a(error: BaseException, *names: str) -> bool:
    """Whether the error's class bears one of the names: asked without importing what defines them, which is heavy."""
    return any(c.__name__ in names for c in type(error).__mro__)
