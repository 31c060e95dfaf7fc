"""Files of tensors: read as they were written, at a bounded cost, and nothing runs."""

import argparse
import collections
import io
import os
import pickle
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mint_cli.network import tensorfile
from mint_cli.network.tensorfile import UnreadableError, read

MOST = 100_000


def saved(value, **options) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def archive(pickled: bytes, compression=zipfile.ZIP_STORED, **records: bytes) -> bytes:
    """A torch file whose pickle is ``pickled`` and whose numbers are ``records``."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as out:
        out.writestr("x/data.pkl", pickled)
        for name, numbers in records.items():
            out.writestr(f"x/data/{name}", numbers)
    return file.getvalue()


def texts(*words: str) -> bytes:
    return b"".join(b"X" + struct.pack("<I", len(w)) + w.encode() for w in words)


WRITERS = {
    "zip": {},
    "legacy": {"_use_new_zipfile_serialization": False},
    "protocol 4": {"pickle_protocol": 4},
    "protocol 5, legacy": {"pickle_protocol": 5, "_use_new_zipfile_serialization": False},
}


@pytest.mark.parametrize("options", WRITERS.values(), ids=WRITERS.keys())
def test_every_kind_of_plain_tensor_is_read_as_it_was_written(options):
    base = torch.randn(6, 10)
    state = collections.OrderedDict(
        view=base[1:4, 2:9:3],
        transposed=base.T,
        expanded=base[:1].expand(4, 10),
        scalar=torch.tensor(3),
        empty=torch.zeros(0, 3),
        parameter=nn.Parameter(torch.randn(2, 3)),
        last=torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        **{
            str(dtype): torch.randint(0, 2, (5,)).to(dtype)
            for dtype in tensorfile.STORAGES.values()
            if "q" not in str(dtype)
        },
    )
    held = saved({"epoch": 3, "inner": {"state": state}, "losses": [0.5] * 3}, **options)
    found = read(held, MOST)["inner.state"]
    assert list(found) == list(state)
    for name, t in state.items():
        made = found[name].make()
        assert found[name].shape == made.shape and found[name].dtype == made.dtype == t.dtype
        assert torch.equal(made, t)


@pytest.mark.parametrize("options", WRITERS.values(), ids=WRITERS.keys())
def test_what_is_no_tensor_is_left_alone_wherever_it_stands(options):
    class Code:
        def __reduce__(self):
            return os.mkdir, ("executed",)

    beside = {"args": argparse.Namespace(lr=1), 3: Code(), "counter": collections.Counter("aab")}
    beside |= {"set": {1, 2}, "bytes": b"abc", "big": 2**90, "none": None, "size": torch.Size([2])}
    held = saved(beside | {"code": Code(), "state": {"a": torch.ones(2)}}, **options)
    assert {place: list(entries) for place, entries in read(held, MOST).items()} == {"state": ["a"]}
    assert not os.path.exists("executed")


def test_a_mapping_within_itself_is_found_once():
    held = {"a": torch.ones(1)}
    held["again"] = held
    assert list(read(saved(held), MOST)) == ["."]


ODD = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "without numbers (meta)": lambda: torch.ones(3, device="meta"),
    "of another kind (tensor_v3)": lambda: torch.ones(3).to(torch.float8_e5m2),
    "a view with a sign of its own": lambda: torch.ones(3, dtype=torch.complex64).conj().imag,
}


@pytest.mark.filterwarnings("ignore")  # torch's, at writing
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("words, make", ODD.items(), ids=ODD.keys())
def test_tensors_that_are_not_plain_are_said_to_be_so(words, make, legacy):
    held = saved({"a": make(), "b": torch.ones(2)}, _use_new_zipfile_serialization=not legacy)
    found = read(held, MOST)["."]
    assert found["a"].odd == words
    assert torch.equal(found["b"].make(), torch.ones(2))


def test_safetensors_are_sorted_whatever_order_they_were_written_in(tmp_path):
    state = {name: torch.randn(3).to(torch.bfloat16) for name in "cab"}
    save_file(state, tmp_path / "x.safetensors")
    found = read((tmp_path / "x.safetensors").read_bytes(), MOST)["."]
    assert list(found) == ["a", "b", "c"]
    assert all(torch.equal(found[name].make(), state[name]) for name in state)


def tensor(storage: bytes, offset: bytes = b"K\x00", size: bytes = b"K\x01") -> bytes:
    """A pickle of one tensor called w, of float32 numbers in one row."""
    made = b"ctorch._utils\n_rebuild_tensor_v2\n((" + texts("storage") + storage
    made += texts("cpu") + b"K\x01tQ" + offset + size + b"\x85K\x01\x85\x89}tR"
    return b"}" + texts("w") + made + b"s."


DEEP = b"\x80\x02)q\x00" + b"h\x00h\x00\x86q\x00" * 200  # (t, t), 200 times within itself
FLOATS, MANY = b"ctorch\nFloatStorage\n" + texts("0"), {"a": torch.ones(1), "log": [0.5] * 20000}
NONE, LONG = "holds no tensors", "describes its tensors in"
HOSTILE = {
    "a gigabyte of pickle in a small archive": (
        archive(b"\x80\x02" + b"N" * 2**22 + b".", zipfile.ZIP_DEFLATED),
        "compressed archive",
    ),
    "a pickle longer than the network needs": (saved(MANY), LONG),
    "a legacy pickle longer than the network needs": (
        saved(MANY, _use_new_zipfile_serialization=False),
        LONG,
    ),
    "thousands of tensors": (saved({str(i): torch.ones(1) for i in range(2000)}), LONG),
    "a key that takes forever to hash": (archive(DEEP + b"}h\x00K\x01s."), NONE),
    "a function that takes forever to print": (archive(DEEP + b"h\x00)R."), NONE),
    "a module that takes forever to print": (archive(DEEP + b"h\x00h\x00\x93."), NONE),
    "numbers that take forever to name": (
        archive(DEEP + tensor(b"ctorch\nFloatStorage\nh\x00")),
        "no name",
    ),
    "numbers of a type that takes forever to hash": (
        archive(DEEP + tensor(b"h\x00" + texts("0")), **{"0": b"abcd"}),
        "no name",
    ),
    "a shape that takes forever to compare": (
        archive(DEEP + tensor(FLOATS, b"h\x00", b"h\x00"), **{"0": b"abcd"}),
        "impossible shape",
    ),
    "a list that takes forever to make a tensor of": (
        archive(DEEP + b"ctorch\nFloatTensor\nh\x00\x85R."),
        NONE,
    ),
    "a place in memory beyond all": (archive(b"\x80\x02]r\xff\xff\xff\xff."), NONE),
    "lists within lists": (archive(b"\x80\x02" + b"]" * 45000 + b"a" * 44999 + b"."), NONE),
    "calls within calls": (archive(b"\x80\x02N" + b")R" * 45000 + b"."), NONE),
    "paths longer than the file": (
        archive(
            b"\x80\x02}"
            + texts("n" * 50000)
            + b"}q\x00("
            + b"".join(texts(str(i)) + b"}" for i in range(5000))
            + b"us."
        ),
        NONE,
    ),
    "a tensor larger than its numbers": (
        archive(tensor(FLOATS, size=b"J\x00\x00\x00\x40"), **{"0": b"abcd"}),
        "larger than its numbers",
    ),
    "a tensor beside its numbers": (
        archive(tensor(FLOATS, offset=b"K\x01"), **{"0": b"abcd"}),
        "larger than its numbers",
    ),
    "a tensor before its numbers": (
        archive(tensor(FLOATS, offset=b"J\xff\xff\xff\xff"), **{"0": b"abcd"}),
        "impossible shape",
    ),
    "big-endian numbers": (
        saved({"a": torch.ones(1)}).replace(b"little", b"bigger"),
        "big-endian",
    ),
    "an archive of something else": (
        archive(b"").replace(b"data.pkl", b"data.txt"),
        "not one of torch",
    ),
    "a pickle of something else": (pickle.dumps({"a": 1}, protocol=2), "damaged"),
    "pickles of something else": (pickle.dumps(1, protocol=2) * 5, "not a torch file"),
    "nothing but a beginning": (b"PK", "damaged"),
    "safetensors with an endless header": (b"\xff" * 8 + b"{}", LONG),
    "safetensors with more names than the network": (
        struct.pack("<Q", MOST + 1) + b"{" + b" " * MOST,
        LONG,
    ),
    "safetensors without tensors": (struct.pack("<Q", 2) + b"{}", NONE),
    "a single tensor": (saved(torch.ones(3)), NONE),
    "no tensor": (saved({"epoch": 3, "state_dict": {"weight": [1, 2]}}), NONE),
    "nothing": (saved({}), NONE),
}


@pytest.mark.parametrize("held, words", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_or_damaged_file_is_refused_in_words(held, words):
    with pytest.raises(UnreadableError, match=words):
        read(held, MOST)


@pytest.mark.parametrize("options", WRITERS.values(), ids=WRITERS.keys())
def test_a_file_cut_short_anywhere_is_refused(options):
    held = saved({"a": torch.randn(50), "b": torch.randn(50)}, **options)
    for length in range(2, len(held) - 1, 37):
        with pytest.raises(UnreadableError):
            read(held[:length], MOST)
