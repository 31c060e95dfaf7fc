"""What can go wrong by a setting, by data or by the machine, each told in one sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ABSENT = object()  # no value to tell


class SettingError(ValueError):
    """A setting outside its bounds: which one, what it must be, and what it is instead.

    ``setting`` is named as the code that refuses it knows it; whoever knows more of the way to it
    puts an owner before it (``owned``), and the command line writes it as the user does.
    """

    def __init__(self, setting: str, bound: str, value: Any = ABSENT, hint: str = "") -> None:
        super().__init__(setting, bound, value, hint)
        self.setting, self.bound, self.value, self.hint = setting, bound, value, hint

    def __str__(self) -> str:
        given = "" if self.value is ABSENT else f", not {shortened(self.value)}"
        return f"{self.setting} {self.bound}{given}{'; ' + self.hint if self.hint else ''}"


class DataError(RuntimeError):
    """Data that cannot be used (missing, damaged, NaN); the message says what and where."""


class Unreachable(ValueError):
    """More weights are to go than may; ``most`` is how many may."""

    def __init__(self, most: int) -> None:
        super().__init__(f"at most {most} weights can go")
        self.most = most


@contextmanager
def owned(owner: str) -> Iterator[None]:
    """Put ``owner`` before the setting of a SettingError that passes through."""
    try:
        yield
    except SettingError as error:
        error.setting = f"{owner}.{error.setting}"
        raise


def shortened(value: Any, most: int = 200) -> str:
    """A value in words, cut where it is too long to read."""
    try:
        text = str(value)
    except ValueError:  # an integer of more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= most else f"{text[:most]}…"


def sentence(error: BaseException) -> str | None:
    """The sentence for a bad setting, unusable data, a refusing file system, or no memory left;
    else None.
    """
    if isinstance(error, SettingError | DataError):
        return str(error)
    if is_a(error, "OutOfMemoryError"):
        return (
            "the GPU ran out of memory; lower the batch_size of training and retraining, "
            "or samples_per_class"
        )
    if isinstance(error, OSError) and (error.filename or error.errno):
        reason = os.strerror(error.errno) if error.errno else error
        return f"cannot use {error.filename or 'a file'}: {reason}"
    return None


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def is_a(error: BaseException, name: str) -> bool:
    """Whether the error's class bears the name: asked without importing what defines it, which is
    heavy.
    """
    return any(c.__name__ == name for c in type(error).__mro__)
