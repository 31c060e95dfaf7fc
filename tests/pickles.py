"""Pickles as Python 2 wrote the batches of CIFAR-10, opcode by opcode, whole or crafted."""

from __future__ import annotations

import struct


def text(value: bytes) -> bytes:
    size = len(value)
    return (b"U" + bytes([size]) if size < 256 else b"T" + struct.pack("<i", size)) + value


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def state(itemsize: int = -1, flags: int = 0, fields: bytes = b"NN") -> bytes:
    """State of a dtype: version, byte order, subtype, names and fields, size, alignment, flags."""
    kind = number(3) + text(b"|") + b"N" + fields
    return b"(" + kind + number(itemsize) + number(-1) + number(flags) + b"t"


def dtype(name: bytes, built: bytes) -> bytes:
    return b"cnumpy\ndtype\n" + text(name) + number(0) + number(1) + b"\x87R" + built + b"b"


def matrix(pixels: bytes, shape: tuple[int, ...], kind: bytes | None = None) -> bytes:
    """An array of that shape, of uint8 or of the opcodes of another dtype."""
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + number(0) + b"\x85"
    axes = b"(" + b"".join(number(n) for n in shape) + b"t"
    content = axes + (kind or dtype(b"u1", state())) + b"\x89" + text(pixels)
    return made + text(b"b") + b"\x87R(" + number(1) + content + b"tb"


def batch(data: bytes, labels: list[int]) -> bytes:
    """A batch of the opcodes of its data and of labels."""
    listed = b"](" + b"".join(number(label) for label in labels) + b"e"
    named = text(b"batch_label") + text(b"training batch 1 of 5") + text(b"filenames") + b"](e"
    return b"\x80\x02}(" + named + text(b"labels") + listed + text(b"data") + data + b"u."
