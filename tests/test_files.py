import errno
import logging
import os
import re
import socket
import subprocess
import sys
import time

import pytest

from mint_cli import files
from mint_cli.errors import sentence

KEY = "0123456789abcdef01234567"


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    job = subprocess.Popen([sys.executable, "-c", ""])
    job.wait()
    return job.pid


def test_names_beside_a_file_differ_in_one_process_and_say_whose_they_are(tmp_path):
    one, two = (files.beside(tmp_path / KEY).name for _ in range(2))
    assert one != two
    assert re.fullmatch(rf"\.{KEY}\.{os.getpid()}\.[0-9a-f]{{8}}\.{socket.gethostname()}", one)


@pytest.mark.parametrize("there", ["nothing", "file", "folder", "pipe", "link loop"])
def test_a_file_is_put_in_the_place_of_whatever_bears_its_name(tmp_path, there):
    path = tmp_path / "record.json"
    lay(path, there)
    files.put(path, b"new")
    assert path.read_bytes() == b"new" and [p.name for p in tmp_path.iterdir()] == ["record.json"]


def lay(path, kind):
    if kind == "file":
        path.write_bytes(b"old")
    elif kind == "folder":
        (path / "inside").mkdir(parents=True)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link loop":
        path.symlink_to(path)


@pytest.mark.parametrize("there", ["nothing", "folder", "pipe", "link loop", "zeros"])
def test_what_is_no_regular_file_is_never_read(tmp_path, there):
    path = tmp_path / "metrics.json"
    lay(path, there)
    if there == "zeros":
        path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"metrics\.json is missing or no regular file"):
        files.read(path)


def test_a_full_disk_is_told_with_the_file_and_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    path.write_bytes(b"old")

    def full(self, data):
        self.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a full disk: without a name

    monkeypatch.setattr(type(path), "write_bytes", full)
    with pytest.raises(OSError) as refusal:
        files.put(path, b"new")
    assert sentence(refusal.value) == f"cannot use {path}: No space left on device"
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_removing_a_link_leaves_what_it_points_to(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    files.remove(tmp_path / "link")
    assert (tmp_path / "folder" / "file").exists() and not (tmp_path / "link").is_symlink()


def test_what_ended_processes_and_finished_artifacts_leave_is_a_leftover_and_nothing_else(
    tmp_path, dead
):
    other = "f" * 24
    (tmp_path / other).mkdir()
    (tmp_path / other / files.SUMS).touch()
    alive, here = os.getpid(), socket.gethostname()
    cases = {  # name: (fresh, a day and an hour old)
        f".{KEY}.{dead}.01234567.{here}": (True, True),
        f".{KEY}.{alive}.01234567.{here}": (False, True),
        f".{KEY}.{dead}.01234567.elsewhere": (False, True),
        f".{KEY}.progress.{dead}.01234567.{here}": (True, True),
        f".{KEY}.progress-0123456789abcdef.{dead}.01234567.{here}": (True, True),
        f".{KEY}.{dead}": (False, True),  # as earlier versions called them
        f".{KEY}.progress": (False, False),
        f".{KEY}.progress-0123456789abcdef": (False, False),
        f".{other}.progress": (True, True),
        f".{other}.progress-0123456789abcdef": (True, True),
        f".{KEY}.notes.txt": (False, False),
        ".DS_Store": (False, False),
        KEY: (False, False),
    }
    for name, expected in cases.items():
        path, found = tmp_path / name, []
        path.touch()
        for age in (0, files.DAY + 3600):
            os.utime(path, (time.time() - age,) * 2)
            found.append(files.is_leftover(path))
        assert tuple(found) == expected, name


def test_progress_is_a_leftover_once_nobody_has_touched_it_for_as_long_as_asked(tmp_path):
    path = tmp_path / f".{KEY}.progress"
    path.touch()
    os.utime(path, (time.time() - 100,) * 2)
    assert files.is_leftover(path, 50) and not files.is_leftover(path, 150)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.EPERM, errno.ENOSYS])
def test_without_locks_in_the_file_system_a_job_goes_on_with_one_warning_that_names_the_file(
    tmp_path, monkeypatch, caplog, code
):
    def refuses(file, how):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.fcntl, "flock", refuses)
    with files.sole_use(tmp_path / ".locks" / "train-x", "train", lambda: False):
        pass
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert str(tmp_path / ".locks" / "train-x") in record.message
    assert os.strerror(code) in record.message


@pytest.mark.parametrize("there", ["folder", "pipe", "link loop"])
def test_a_lock_takes_the_place_of_whatever_bears_its_name(tmp_path, there):
    lay(tmp_path / "lock", there)
    with files.sole_use(tmp_path / "lock", "train", lambda: False):
        assert (tmp_path / "lock").is_file()


def test_a_lock_is_waited_for_until_it_is_needless(tmp_path):
    asked = []

    def needless():
        asked.append(True)
        return len(asked) == 3

    with files.sole_use(tmp_path / "lock", "train", lambda: False):
        with files.sole_use(tmp_path / "lock", "train", needless):
            assert len(asked) == 3
