"""Plain values in a pickle, read without pickle: no file can name a function or an address."""

from __future__ import annotations

import pickletools
from typing import Any

import numpy as np

OPCODES = 300_000  # the training images of CIFAR-100 need some 200,000


def plain(content: bytes) -> Any:
    """The value of a pickle of dictionaries, lists, tuples, integers, texts and uint8 matrices.

    Texts come as bytes, as Python 2 has written them; matrices are read-only.  ValueError for
    whatever else the pickle asks for.  Time and memory are proportional to ``content``.
    Format: protocols 2 (that of the published files) and 4, as in the standard ``pickletools``.
    """
    try:
        return run(content)
    except (LookupError, TypeError) as error:
        raise ValueError("its opcodes do not fit one another") from error


def run(content: bytes) -> Any:
    """The value that the opcodes of ``content`` leave on the stack."""
    stack, marks, memo = [], [], {}
    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        name = opcode.name
        if number == OPCODES:
            raise ValueError(f"it has more than {OPCODES:,} opcodes")
        if name == "STOP":
            break
        if name == "MARK":
            marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in PUT:
            stack.append(PUT[name](argument))
        elif name in TAKE:
            count, marked, function = TAKE[name]
            start = (marks.pop() if marked else len(stack)) - count
            if not 0 <= start <= len(stack) - count:
                raise IndexError
            stack[start:] = [function(*stack[start:])]
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"it asks for {name}")
    return stack[-1]


# What stands for the few names a matrix is made of.  No text in a pickle is a str: texts are bytes.
GLOBALS = {
    "numpy.core.multiarray _reconstruct": "reconstruct",
    "numpy._core.multiarray _reconstruct": "reconstruct",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
}


def named(name: str) -> str:
    """What stands for a global of that module and name."""
    if name not in GLOBALS:
        raise ValueError(f"it asks for {name.replace(' ', '.')}")
    return GLOBALS[name]


def called(function: Any, arguments: tuple) -> str:
    """What stands for the result of a call: the one type of numbers, or a matrix to be filled."""
    if function == "dtype" and arguments[0] == b"u1":
        return "uint8"
    if function == "reconstruct" and arguments == ("ndarray", (0,), b"b"):
        return "matrix"
    raise ValueError("it makes something other than a matrix of bytes")


def built(made: Any, state: tuple) -> Any:
    """The matrix of a state (version, shape, type, by columns, bytes); a type stays as it is."""
    if made == "uint8" and state == (3, b"|", None, None, None, -1, -1, 0):
        return made
    if made == "matrix" and len(state) == 5 and state[0] == 1 and state[2:4] == ("uint8", False):
        (rows, columns), pixels = state[1], state[4]
        if min(rows, columns) >= 0:  # also: both are numbers
            return np.frombuffer(pixels, np.uint8).reshape(rows, columns)
    raise ValueError("it makes something other than a matrix of bytes")


def appended(values: Any, *more: Any) -> list:
    """The list with ``more`` at its end."""
    if type(values) is not list:
        raise ValueError("it appends to something other than a list")
    values.extend(more)
    return values


def filled(values: Any, *pairs: Any) -> dict:
    """The dictionary with keys and values, in turn; only texts can be keys.

    A tuple as a key would be hashed, which for tuples of tuples takes time without bound.
    """
    if type(values) is not dict or any(type(key) is not bytes for key in pairs[::2]):
        raise ValueError("it fills something other than a dictionary with texts as keys")
    values.update(zip(pairs[::2], pairs[1::2], strict=True))
    return values


# Opcodes that put a value on the stack, made of their argument.
PUT = {
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_DICT": lambda _: {},
    "EMPTY_LIST": lambda _: [],
    "GLOBAL": named,
    **dict.fromkeys(["BININT", "BININT1", "BININT2"], int),
    **dict.fromkeys(["SHORT_BINBYTES", "BINBYTES"], bytes),
    **dict.fromkeys(["SHORT_BINUNICODE", "BINUNICODE"], str.encode),
    **dict.fromkeys(["SHORT_BINSTRING", "BINSTRING"], lambda text: text.encode("latin-1")),
}
# Opcodes that put a function of values in their place: how many, and all above the last mark too?
TAKE = {
    "TUPLE": (0, True, lambda *values: values),
    **{f"TUPLE{n}": (n, False, lambda *values: values) for n in (1, 2, 3)},
    "APPEND": (2, False, appended),
    "APPENDS": (1, True, appended),
    "SETITEM": (3, False, filled),
    "SETITEMS": (1, True, filled),
    "STACK_GLOBAL": (2, False, lambda *names: named(" ".join(map(bytes.decode, names)))),
    "REDUCE": (2, False, called),
    "BUILD": (2, False, built),
}
