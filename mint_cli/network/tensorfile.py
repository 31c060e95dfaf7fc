"""Files of tensors from elsewhere: described before a tensor is made, and nothing in them runs.

A torch file is a pickle and raw numbers.  Its pickle is followed as data: what it wants called is
noted and not called, so that reading costs no more than the pickle is long, and a tensor is made
only when somebody asks for it.  Safetensors files are read by their own library.
"""

from __future__ import annotations

import hashlib
import io
import pickletools
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

TOP = "."  # path of a file's outermost mapping
DEPTH, LONGEST = 5, 200  # of mappings within mappings that are looked at, and letters of a name
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001  # of torch files before 1.6
STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
    "torch.QInt8Storage": torch.qint8,
    "torch.QUInt8Storage": torch.quint8,
    "torch.QInt32Storage": torch.qint32,
    "torch.storage.UntypedStorage": torch.uint8,
}
REBUILT = "torch._utils._rebuild_"  # what every tensor in a torch file begins with
PLAIN = {f"{REBUILT}tensor", f"{REBUILT}tensor_v2"}
WRAPPERS = {  # calls around a tensor, and which of their arguments makes it
    f"{REBUILT}parameter": lambda arguments: arguments[0],
    f"{REBUILT}parameter_with_state": lambda arguments: arguments[0],
    "torch._tensor._rebuild_from_type_v2": lambda arguments: Call(arguments[0], arguments[2]),
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class UnreadableError(Exception):
    """Why a file cannot be read, in words."""


@dataclass(frozen=True)
class Entry:
    """A tensor as its file describes it; ``make`` reads it, or ``odd`` says why it cannot."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], Tensor]
    odd: str = ""


@dataclass(frozen=True)
class Call:
    """What a pickle wants called: noted, never called."""

    function: Any
    arguments: Any


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file at ``path``; what is no file (a folder, a pipe, a device) is not even opened."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "folder" if stat.S_ISDIR(mode) else "pipe" if stat.S_ISFIFO(mode) else "device"
            raise UnreadableError(f"it is a {kind}")
        with path.open("rb") as file:
            yield file
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise UnreadableError(getattr(error, "strerror", None) or str(error)) from error


def digest(path: Path) -> tuple[str, bool]:
    """SHA-256 of a safetensors or torch file, told by its beginning, and whether it is torch's."""
    with opened(path) as file:
        head = file.read(16)
        if not (is_torch(head) or is_safetensors(head)):
            raise UnreadableError("it begins like neither" if head else "it is empty")
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest(), is_torch(head)


def content(path: Path, most: int) -> bytes:
    """All bytes of a file of at most ``most``."""
    with opened(path) as file:
        held = file.read(most + 1)
    if len(held) > most:
        raise UnreadableError(f"it is larger than the {most} bytes that this network accounts for")
    return held


def is_torch(head: bytes) -> bool:
    """Whether a file that begins so is a zip archive or a pickle."""
    return head.startswith((b"PK", b"\x80"))


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins so is safetensors: a length, then JSON."""
    return head[8:9] == b"{"


def read(held: bytes, most: int) -> dict[str, dict[str, Entry]]:
    """Every mapping with tensors by its dotted path in the file, ``.`` the outermost.

    Tensors keep the order of a torch file; in a safetensors file, which has none, they are sorted.
    ``most`` bounds the bytes that describe the tensors (the pickle, the header), and with them time
    and memory.  Raises UnreadableError for a damaged file and for one without named tensors.
    """
    try:
        if is_safetensors(held):
            found = read_safetensors(held, most)
        elif held.startswith(b"PK"):
            found = read_archive(held, most)
        else:
            found = read_legacy(held, most)
    except UnreadableError:
        raise
    except Exception as error:  # whatever a damaged or hostile file makes a reader raise
        kind = type(error).__name__
        raise UnreadableError(f"it is damaged ({kind}); nothing in it was executed") from error
    if not found:
        raise UnreadableError("it holds no tensors under names; nothing in it was executed")
    return found


def read_safetensors(held: bytes, most: int) -> dict[str, dict[str, Entry]]:
    """The tensors of a safetensors file, in alphabetical order, since it keeps none."""
    refuse_longer(int.from_bytes(held[:8], "little"), most)
    tensors = sorted(load_safetensors(held).items())
    found = {n: Entry(tuple(t.shape), t.dtype, lambda t=t: t) for n, t in tensors}
    return {TOP: found} if found else {}


def refuse_longer(length: int, most: int) -> None:
    """UnreadableError for a description of tensors that is longer than any for the network."""
    if length > most:
        text = (
            f"it describes its tensors in more than the {most} bytes that this network accounts for"
        )
        raise UnreadableError(text)


def read_archive(held: bytes, most: int) -> dict[str, dict[str, Entry]]:
    """The tensors of a torch file from 1.6 on: a zip archive without compression."""
    with zipfile.ZipFile(io.BytesIO(held)) as archive:
        infos = {info.filename: info for info in archive.infolist()}
    main = next((n for n in infos if n.count("/") == 1 and n.endswith("/data.pkl")), None)
    if main is None:
        raise UnreadableError("it is a zip archive, but not one of torch")
    folder = main.removesuffix("data.pkl")

    def record(name: str) -> memoryview:
        return stored(held, infos[folder + name])

    if f"{folder}byteorder" in infos and bytes(record("byteorder")) != b"little":
        raise UnreadableError("its numbers are big-endian")
    pickle = record("data.pkl")
    refuse_longer(len(pickle), most)
    return places(described(io.BytesIO(pickle)), lambda key: record(f"data/{key}"))


def stored(held: bytes, info: zipfile.ZipInfo) -> memoryview:
    """The bytes of an archive's record, in place: without compression nothing outgrows the file."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise UnreadableError("it is a compressed archive, which torch does not write")
    at = info.header_offset
    name, extra = struct.unpack("<HH", held[at + 26 : at + 30])
    start = at + 30 + name + extra
    if start + info.file_size > len(held):
        raise UnreadableError("it is truncated")
    return memoryview(held)[start : start + info.file_size]


def read_legacy(held: bytes, most: int) -> dict[str, dict[str, Entry]]:
    """The tensors of a torch file before 1.6: five pickles, then lengths and numbers."""
    stream, calls = io.BytesIO(held[:most]), []
    try:
        magic, version, about, main, keys = (described(stream, calls) for _ in range(5))
    except Exception:
        refuse_longer(len(held) if stream.tell() == most else 0, most)
        raise
    if magic != MAGIC or version != VERSION or not about["little_endian"]:
        raise UnreadableError("it is a pickle, but not a torch file")
    types: dict[str, torch.dtype] = {}
    for kind, key in (named(call.arguments) for call in calls):
        types.setdefault(key, STORAGES[kind])  # the first counts, as in torch
    storages, at = {}, stream.tell()
    for key in keys if texts(keys) else ():
        start = at + 8
        at = start + int.from_bytes(held[at:start], "little") * types[key].itemsize
        if at > len(held):
            raise UnreadableError("it is truncated")
        storages[key] = memoryview(held)[start:at]
    return places(main, storages.__getitem__)


def described(stream: BinaryIO, storages: list[Call] | None = None) -> Any:
    """What a pickle describes: mappings, lists, tuples and numbers as they are, calls as notes.

    ``storages`` collects the calls for raw numbers.  Mappings keep their keys that are strings, and
    nothing is compared, hashed or printed whole: shared parts, however deep, cost what they take in
    the file.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        at = marks.pop()
        items = stack[at:]
        del stack[at:]
        return items

    def last(count: int) -> list[Any]:
        items = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        return items

    for code, value, _ in pickletools.genops(stream):
        match code.name:
            case "STOP":
                return stack.pop()
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                marks.append(len(stack))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[value] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[value])
            case "GLOBAL":
                stack.append(value.replace(" ", "."))
            case "STACK_GLOBAL":
                names = last(2)
                stack.append(".".join(names) if texts(names) else "")
            case "REDUCE" | "NEWOBJ":
                stack.append(called(*last(2)))
            case "BINPERSID":
                stack.append(Call("storage", stack.pop()))
                if storages is not None:
                    storages.append(stack[-1])
            case "BUILD":
                last(1)  # the state of an object that is not made
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(last(int(code.name[-1]))))
            case "LIST":
                stack.append(since_mark())
            case "DICT":
                items = since_mark()
                stack.append({})
                fill(stack[-1], items)
            case "APPEND":
                extend(stack[-2], last(1))
            case "APPENDS" | "ADDITEMS":
                items = since_mark()
                extend(stack[-1], items)
            case "SETITEM":
                fill(stack[-3], last(2))
            case "SETITEMS":
                items = since_mark()
                fill(stack[-1], items)
            case name if not code.stack_before and len(code.stack_after) == 1:  # a constant
                stack.append(CONSTANTS.get(name, value))
            case name:
                raise UnreadableError(f"its pickle uses {name}, which no file of tensors needs")
    raise UnreadableError("it is truncated")


def called(function: Any, arguments: Any) -> Any:
    """The call as a note; an ordered mapping is a mapping, filled from the pairs it is given."""
    if not isinstance(function, str) or function != "collections.OrderedDict":
        return Call(function, arguments)
    mapping: dict[str, Any] = {}
    for pair in arguments[0] if arguments else ():
        fill(mapping, pair)
    return mapping


def extend(target: Any, items: list[Any]) -> None:
    """Add items to what is a list here; items of an object that is not made are left out."""
    if isinstance(target, list):
        target.extend(items)


def fill(target: Any, items: list[Any]) -> None:
    """Set keys and values in turn in what is a mapping here."""
    if isinstance(target, dict):
        pairs = zip(items[::2], items[1::2], strict=True)
        target.update((key, value) for key, value in pairs if isinstance(key, str))


def texts(values: Any) -> bool:
    """Whether all values are strings."""
    return all(isinstance(value, str) for value in values)


def places(held: Any, storage: Callable[[str], memoryview]) -> dict[str, dict[str, Entry]]:
    """Every mapping with tensors in what a pickle describes, by dotted path; each mapping once."""
    found: dict[str, dict[str, Entry]] = {}
    queue, seen = [(TOP, held, 1)], set()
    for path, mapping, depth in queue:  # grows while it is walked
        if not isinstance(mapping, dict) or id(mapping) in seen:
            continue
        seen.add(id(mapping))
        entries = {name: entry(value, storage) for name, value in mapping.items()}
        tensors = {name: e for name, e in entries.items() if e}
        if tensors:
            found[path] = tensors
        if depth < DEPTH:
            start = "" if path == TOP else f"{path}."
            inside = ((name, value) for name, value in mapping.items() if isinstance(value, dict))
            queue += [(f"{start}{n}", value, depth + 1) for n, value in inside if len(n) < LONGEST]
    return found


def entry(value: Any, storage: Callable[[str], memoryview]) -> Entry | None:
    """The tensor that the note of a call describes; None for anything else."""
    while is_call(value) and value.function in WRAPPERS:
        value = WRAPPERS[value.function](value.arguments)
    if not is_call(value) or not value.function.startswith(REBUILT):
        return None
    if value.function not in PLAIN:
        return Entry((), torch.float32, lambda: torch.empty(0), odd(value.function))
    at, offset, shape, strides, *more = value.arguments
    if any(more[2:]):  # what marks the tensor as the conjugate or the negative of its numbers
        return Entry((), torch.float32, lambda: torch.empty(0), "a view with a sign of its own")
    kind, key = named(at.arguments)
    view = at.arguments[-1]
    if isinstance(view, tuple):  # in the oldest files: part of a storage, and where it begins
        offset += view[1]
    return plain(storage(key), STORAGES[kind], offset, shape, strides)


def plain(
    numbers: memoryview, dtype: torch.dtype, offset: int, shape: tuple, strides: tuple
) -> Entry:
    """The tensor of ``shape`` in raw numbers, ``strides`` and ``offset`` in elements."""
    sizes = (offset, *shape, *strides)
    if not all(type(n) is int and 0 <= n < 2**63 for n in sizes) or len(shape) != len(strides):
        raise UnreadableError("it is damaged: a tensor has an impossible shape")
    reach = sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + 1
    start, stop = (dtype.itemsize * i for i in (offset, offset + reach * all(shape)))
    if stop > len(numbers):
        raise UnreadableError("it is damaged: a tensor is larger than its numbers")

    def make() -> Tensor:
        if start == stop:
            return torch.empty(shape, dtype=dtype)
        own = bytearray(numbers[start:stop])  # aligned, whatever the place in the file
        return torch.frombuffer(own, dtype=dtype).as_strided(shape, strides)

    return Entry(shape, dtype, make)


def named(arguments: Any) -> tuple[str, str]:
    """Type and key of the raw numbers that a torch file calls for."""
    _, kind, key, *_ = arguments
    if not texts((kind, key)):
        raise UnreadableError("it is damaged: its numbers have no name")
    return kind, key


def odd(function: str) -> str:
    """What a tensor is that is not plain, from the name of what would make it."""
    words = {"sparse": "sparse", "qtensor": "quantised", "meta": "without numbers (meta)"}
    name = function.removeprefix(REBUILT)
    return next((kind for part, kind in words.items() if part in name), f"of another kind ({name})")


def is_call(value: Any) -> bool:
    """Whether a value is the note of a call of something with a name."""
    return isinstance(value, Call) and isinstance(value.function, str)
