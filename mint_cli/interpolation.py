"""Interpolations (``${pruner.groups}``): where they lead, and what they come to."""

from __future__ import annotations

import math
import re
from typing import Any

from mint_cli.errors import SettingError

ALONE = re.compile(r"\$\{([\w.]+)\}")  # a setting that is another one
INSIDE = re.compile(
    r"\$\{\s*(?:oc\.[a-z.]+:\s*)?([\w.\[\]]+)\s*[,}]"
)  # another one named in a setting's text
PLAIN = re.compile(r"\$\{\s*([\w.\[\]]+)\s*\}")  # of these, those that must be there
COMPUTED = re.compile(r"\$\{[^{}:]*\$\{")  # another one whose name is itself interpolated
# characters and values of one setting, with everything that it names written out
MOST_TEXT = 100_000

Path = tuple[str, ...]


def followed(raw: dict[str, Any], path: Path, steps: int = 100) -> Path:
    """The path that a path leads to, at most so many interpolations further.

    A setting that is nothing but another one is that other one to whoever types it.
    """
    for i in range(1, len(path) + 1):
        node = at(raw, path[:i])
        found = ALONE.fullmatch(node) if isinstance(node, str) else None
        target = tuple(found[1].split(".")) if found else ()
        if target and steps and exists(raw, target):
            return followed(raw, (*target, *path[i:]), steps - 1)
    return path


def at(raw: Any, path: Path) -> Any:
    """The node of a path; None where there is none."""
    for part in path:
        if isinstance(raw, list) and part.isdigit() and int(part) < len(raw):
            raw = raw[int(part)]
        else:
            raw = raw.get(part) if isinstance(raw, dict) else None
    return raw


def exists(raw: dict[str, Any], path: Path) -> bool:
    """Whether there is a node at a path, null or not."""
    parent = at(raw, path[:-1])
    return (
        not path or at(raw, path) is not None or (isinstance(parent, dict) and path[-1] in parent)
    )


def check(raw: dict[str, Any]) -> None:
    """SettingError for a setting that names none, or itself, or comes to more than may be.

    Counted without writing anything out: eighty lines may come to more than any memory holds.
    """
    try:
        total = size(raw, raw, (), {})
    except RecursionError:
        raise SettingError(
            "the configuration", "names settings by one another without end"
        ) from None
    if total > 10 * MOST_TEXT:
        raise SettingError("the configuration", f"comes to more than {10 * MOST_TEXT:,} characters")


def size(raw: dict[str, Any], value: Any, path: Path, sizes: dict[Path, float]) -> float:
    """Characters and values that ``value`` at ``path`` comes to; ``sizes`` of named ones so far."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return 1 + sum(size(raw, one, (*path, str(name)), sizes) for name, one in pairs)
    if not isinstance(value, str):
        return 1
    setting = ".".join(path)
    if COMPUTED.search(value):
        raise SettingError(setting, "must name other settings directly", value)
    for name in PLAIN.findall(value):
        if not exists(raw, target_of(name, path)):
            raise SettingError(setting, f"names {name}, which is no setting")
    total = len(value) + sum(named(raw, name, path, sizes) for name in INSIDE.findall(value))
    if total > MOST_TEXT:
        raise SettingError(
            setting, f"names itself, or comes to more than {MOST_TEXT:,} characters", value
        )
    return total


def named(raw: dict[str, Any], name: str, path: Path, sizes: dict[Path, float]) -> float:
    """What a setting that another, at ``path``, names comes to; without end if it names itself."""
    target = target_of(name, path)
    if target not in sizes:
        sizes[target] = math.inf  # until it is known
        sizes[target] = size(raw, at(raw, target), target, sizes)
    return sizes[target]


def target_of(name: str, path: Path) -> Path:
    """The path that a name means in a setting at ``path``.

    A leading dot starts at the group that the setting is in, every further one a group above.
    """
    above = len(name) - len(name.lstrip("."))
    parts = tuple(part for part in name.replace("[", ".").replace("]", "").split(".") if part)
    return (*path[: max(0, len(path) - above)], *parts) if above else parts
