import os
import pickle

import numpy as np
import pytest
from pickles import batch, dtype, matrix, number, state, text

from mint_cli.data import pickled
from mint_cli.data.pickled import plain

PIXELS = bytes(range(12))


def test_a_batch_as_published_is_read_as_pickle_reads_it():
    content = batch(matrix(PIXELS, (3, 4)), [7, 0, 9])
    read, expected = plain(content), pickle.loads(content, encoding="bytes")
    assert (read.pop(b"data") == expected.pop(b"data")).all()
    assert read == expected and read[b"labels"] == [7, 0, 9]


def test_a_batch_written_by_python_3_is_read_with_its_texts_as_bytes():
    values = {"data": np.arange(12, dtype=np.uint8).reshape(3, 4), b"labels": [1, 2, 300]}
    values |= {
        "nothing": None,
        "both": (True, False, (1, 2)),
        "long": "ü" * 300,
        "again": ["ü" * 300],
    }
    read = plain(pickle.dumps(values, protocol=4))
    assert (read[b"data"] == values["data"]).all() and read[b"data"].dtype == np.uint8
    assert read[b"labels"] == [1, 2, 300] and read[b"nothing"] is None
    assert read[b"both"] == (True, False, (1, 2)) and read[b"again"] == [read[b"long"]]


OBJECTS = b"N" + text(b"a") + b"\x85}" + text(b"a") + dtype(b"O8", state()) + number(0) + b"\x86s"
CRAFTED = {
    "a dtype of objects": matrix(PIXELS, (3, 4), dtype(b"O8", state())),
    "a size of its own": matrix(PIXELS, (3, 4), dtype(b"u1", state(itemsize=8))),
    "flags of its own": matrix(PIXELS, (3, 4), dtype(b"u1", state(flags=63))),
    "fields of objects": matrix(PIXELS, (3, 4), dtype(b"V8", state(8, 0, OBJECTS[1:]))),
    "a state of a state": matrix(PIXELS, (3, 4), dtype(b"u1", matrix(PIXELS, (3, 4)))),
    "no dtype": matrix(PIXELS, (3, 4), b"N"),
    "by columns": matrix(PIXELS, (3, 4)).replace(b"\x89", b"\x88"),
    "more rows than bytes": matrix(PIXELS, (4, 4)),
    "fewer rows than bytes": matrix(PIXELS, (2, 4)),
    "rows below zero": matrix(PIXELS, (-3, -4)),
    "rows to be found": matrix(PIXELS, (-1, 4)),
    "one axis": matrix(PIXELS, (12,)),
    "three axes": matrix(PIXELS, (3, 2, 2)),
}


@pytest.mark.parametrize("data", CRAFTED.values(), ids=CRAFTED)
def test_only_whole_uint8_matrices_are_made(data):
    with pytest.raises(ValueError):
        plain(batch(data, [1, 2, 3]))


def test_no_function_is_called_and_its_name_is_told(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/executed",)

    for protocol in (2, 4):
        with pytest.raises(ValueError, match=r"it asks for (nt|posix)\.system"):
            plain(pickle.dumps(Evil(), protocol))
    assert not (tmp_path / "executed").exists()


def test_opcodes_that_are_not_needed_are_refused_by_name():
    for value, name in ((1.5, "BINFLOAT"), ({1}, "EMPTY_SET"), (2**70, "LONG1")):
        with pytest.raises(ValueError, match=f"it asks for {name}"):
            plain(pickle.dumps(value, protocol=4))


@pytest.mark.parametrize("count", [40, 50_000])
def test_tuples_of_tuples_are_no_keys(count):
    # As a key such a tuple is hashed: 2^40 steps for twins, a stack of 50,000 calls for a chain.
    twins, chain = b"q\x01h\x01\x86" * count, b"\x85" * count
    nested = twins if count == 40 else chain
    with pytest.raises(ValueError, match="texts as keys"):
        plain(b"\x80\x02}N\x85" + nested + b"Ns.")


def test_a_long_row_of_opcodes_is_refused_before_its_end(monkeypatch):
    monkeypatch.setattr(pickled, "OPCODES", 1000)
    assert plain(b"\x80\x02" + b"N" * 900 + b".") is None
    with pytest.raises(ValueError, match="more than 1,000 opcodes"):
        plain(b"\x80\x02" + b"N" * 2000)  # without its end, which is not looked for


def test_a_place_far_away_in_the_memo_takes_no_memory():
    assert plain(b"\x80\x02Nr\xff\xff\xff\x7fj\xff\xff\xff\x7f.") is None


@pytest.mark.parametrize(
    "opcodes",
    [
        b".",
        b"t.",
        b"\x86.",
        b"R.",
        b"b.",
        b"h\x05.",
        b"q\x05.",
        b"e.",
        b"N(Ne.",
        b"N(NNu.",
        b"N(U\x01aNu.",
        b"}(Nu.",
        b"\x93.",
    ]
    + [b"", b"\xff.", b"N", b"NN\x93.", b"}N\x85b.", b"T\xff\xff\xff\x7fshort."],
)
def test_opcodes_that_do_not_fit_one_another_are_refused(opcodes):
    with pytest.raises(ValueError):
        plain(b"\x80\x02" + opcodes)


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_every_file_with_one_byte_changed_is_read_or_refused():
    content = batch(matrix(PIXELS, (3, 4)), [7, 0, 9])
    rng = np.random.default_rng(0)
    outcomes = set()
    for place in range(len(content)):
        for value in {0, 255, *rng.integers(0, 256, 6).tolist()}:
            try:
                plain(content[:place] + bytes([value]) + content[place + 1 :])
                outcomes.add("read")
            except ValueError:
                outcomes.add("refused")
    assert outcomes == {"read", "refused"}
