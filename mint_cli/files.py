"""The files of a store: complete under their names, one writer at a time, none that hangs.

``<root>/<stage>/<key>/`` is an artifact; beside it ``.<key>.progress…`` lets a killed run go on,
and ``.<key>.<process>…`` is being written; who holds ``<root>/.locks/<stage>-<key>`` makes it.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import re
import shutil
import socket
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # no such locks: two jobs may do the same work, and both are right
    fcntl = None

log = logging.getLogger(__name__)

TENSORS, METRICS = "tensors.safetensors", "metrics.json"
SECONDS, SUMS = "seconds.json", "checksums.json"  # written last: where it is, all are
DAY = 86_400.0  # seconds
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
LEFTOVER = re.compile(
    r"\.(?P<key>[0-9a-f]{24})"
    r"(\.progress(-[0-9a-f]{16})?)?(\.(?P<pid>\d+)(\.[0-9a-f]{8}\.(?P<host>.+))?)?"
)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Let an OSError say which file it is about, as a full disk does not."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def read(path: Path) -> bytes:
    """The content of a regular file; ValueError where there is none: a pipe would never end."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
        regular = False
    if not regular:
        raise ValueError(f"{path.name} is missing or no regular file")
    return path.read_bytes()


def write(path: Path, data: bytes) -> None:
    """Write a file under a name that nobody else uses."""
    with named(path):
        path.write_bytes(data)


def put(path: Path, data: bytes) -> None:
    """Write a file aside, then rename it: what bears the name is complete."""
    aside = beside(path)
    try:
        with named(path):
            aside.write_bytes(data)
            make_way(path)
            aside.replace(path)
    finally:
        remove(aside)


def beside(path: Path) -> Path:
    """A hidden name beside a path that no process of any host shares, and that says whose it is."""
    start = path.name if path.name.startswith(".") else f".{path.name}"
    return path.with_name(f"{start}.{os.getpid()}.{uuid.uuid4().hex[:8]}.{socket.gethostname()}")


def make_way(path: Path) -> None:
    """Remove what lies in a file's place and is none: a folder, a pipe, a link to nowhere."""
    if os.path.lexists(path) and not path.is_file():
        remove(path)


def remove(path: Path) -> None:
    """Remove what bears a name, never what a link points to; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def is_finished(folder: Path) -> bool:
    """Whether an artifact was published in a folder; its content is checked when it is loaded."""
    return (folder / SUMS).exists()


def is_leftover(path: Path, patience: float = math.inf) -> bool:
    """Whether a path is what a killed job has left beside the artifacts of a stage.

    That is what a process wrote aside that is gone from this host, or a day ago; and progress of a
    finished artifact, or that nobody has touched for ``patience`` seconds.
    """
    found = LEFTOVER.fullmatch(path.name)
    try:
        age = time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return False
    if found and found["pid"]:
        here = found["host"] == socket.gethostname()
        return age > DAY or (here and not is_alive(int(found["pid"])))
    return bool(found) and (age > patience or is_finished(path.with_name(found["key"])))


def tidy(folder: Path) -> None:
    """Remove from a stage's folder what killed jobs have left."""
    for path in folder.glob(".*"):
        if is_leftover(path):
            remove(path)


def is_alive(pid: int) -> bool:
    """Whether a process of this host lives; it may where asking would stop it."""
    try:
        if os.name == "posix":
            os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def sole_use(path: Path, name: str, needless: Callable[[], bool]) -> Iterator[None]:
    """Hold a lock that the system frees when its holder dies, or none once it is needless.

    Without locks in the file system it goes on with a warning: two jobs may then do the same work.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    make_way(path)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl:
            wait_for(file, path, name, needless)
        yield
    finally:
        with suppress(OSError, AttributeError):  # closing leaves it to forked processes
            fcntl.flock(file, fcntl.LOCK_UN)
        os.close(file)


def wait_for(file: int, path: Path, name: str, needless: Callable[[], bool]) -> None:
    """Lock an open file as soon as it is free; says so when it has to wait."""
    pause = 0.05  # seconds
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                log.warning("%s: goes on without a lock: %s: %s", name, path, error.strerror)
                return
        if pause == 0.05:
            log.info("%s: waiting for another job that makes the same artifact", name)
        if needless():
            return
        time.sleep(pause)
        pause = min(2.0, 1.5 * pause)
