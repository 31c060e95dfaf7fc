"""Finished parts of a long computation, kept by whoever runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from mint_cli.protocol import Tensors

Once = Callable[[str, Callable[[], Tensors]], Tensors]  # the finished part of that name, or made now

_keeper: ContextVar[Once] = ContextVar("keeper", default=lambda name, make: make())


@contextmanager
def kept_by(once: Once) -> Iterator[None]:
    """Within it finished parts are kept by ``once`` and not made again."""
    token = _keeper.set(once)
    try:
        yield
    finally:
        _keeper.reset(token)


def once(name: str, make: Callable[[], Tensors]) -> Tensors:
    """A finished part: kept from an earlier run that was cut off, or made now; nothing else may depend on which."""
    return _keeper.get()(name, make)
