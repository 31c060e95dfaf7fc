"""Finished parts of a long computation, kept by whoever runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tqdm import tqdm

from mint_cli.protocol import Tensors

Once = Callable[
    [str, Callable[[], Tensors]], Tensors
]  # the finished part of that name, or made now

_keeper: ContextVar[Once] = ContextVar("keeper", default=lambda name, make: make())


@contextmanager
def kept_by(once: Once, layers: int | None = None) -> Iterator[None]:
    """Within it finished parts are kept by ``once`` and not made again.

    Where it is known that there is one for each of so many ``layers``, a terminal shows time left.
    """
    with tqdm(total=layers, disable=None if layers else True, leave=False, unit="layer") as bar:

        def counted(name: str, make: Callable[[], Tensors]) -> Tensors:
            found = once(name, make)
            bar.update()
            return found

        token = _keeper.set(counted)
        try:
            yield
        finally:
            _keeper.reset(token)


def once(name: str, make: Callable[[], Tensors]) -> Tensors:
    """A finished part: kept from an earlier run that was cut off, or made now; nothing else may
    depend on which.
    """
    return _keeper.get()(name, make)
