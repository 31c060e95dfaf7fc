import os
import socket

import pytest

from mint_cli.data.files import present, read, regular
from mint_cli.errors import DataError


def test_a_regular_file_is_read_whole_also_through_a_link(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read(tmp_path / "link", 5) == b"12345" and regular(tmp_path / "link") == 5


def test_a_file_larger_than_it_can_be_is_refused_unread(tmp_path):
    with open(tmp_path / "large", "wb") as file:
        file.truncate(2**40)  # no blocks: a terabyte of nothing
    with pytest.raises(DataError, match="large has 1,099,511,627,776 bytes.*1,000 at most"):
        read(tmp_path / "large", 1000)


def make(path, kind):
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "socket"])
def test_what_is_no_regular_file_is_refused_by_name_and_not_opened(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    path = tmp_path.relative_to(tmp_path) / "thing"
    make(path, kind)
    for function in (present, regular, lambda p: read(p, 10)):
        with pytest.raises(DataError, match=f"thing is a {kind}, not a regular file"):
            function(path)


def test_links_in_a_circle_are_refused_by_name(tmp_path):
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    with pytest.raises(DataError, match="one cannot be read: Too many levels of symbolic links"):
        present(tmp_path / "one")


def test_only_what_has_no_name_is_absent(tmp_path):
    assert not present(tmp_path / "nothing") and not present(tmp_path / "no" / "folder")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    with pytest.raises(DataError, match="dangling cannot be read: No such file"):
        present(tmp_path / "dangling")


def test_a_name_that_no_file_can_have_is_refused():
    with pytest.raises(DataError, match="cannot be read: embedded null byte"):
        regular("a\0b")


def test_a_file_that_may_not_be_read_is_refused_by_name(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"1")

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DataError, match="file cannot be read: Permission denied"):
        read(tmp_path / "file", 1)
