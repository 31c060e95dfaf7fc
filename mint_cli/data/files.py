"""Files that others have made, looked at before they are opened and read no further than needed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mint_cli.errors import DataError

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def present(path: Path) -> bool:
    """Whether something of that name is there; DataError if it is but is no regular file."""
    if not os.path.lexists(path):
        return False
    regular(path)
    return True


def regular(path: Path) -> int:
    """The size in bytes of a regular file, links followed; DataError for anything else.

    Asked before a file is opened: opening a pipe waits for somebody to write into it.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}") from error
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{path} is {KINDS[stat.S_IFMT(found.st_mode)]}, not a regular file")
    return found.st_size


def read(path: Path, most: int) -> bytes:
    """The content of a regular file; DataError, unread, if it has more than ``most`` bytes."""
    size = regular(path)
    if size > most:
        raise DataError(f"{path} has {size:,} bytes, and such a file can have {most:,} at most")
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
