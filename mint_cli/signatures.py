"""Settings compared with the signatures that take them: names and types."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from dataclasses import is_dataclass
from functools import partial
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from mint_cli.errors import SettingError, owned

WORDS = {  # what the user writes: one, many
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
    bool: ("true or false", "true or false"),
    type(None): ("null", "null"),
}


def bind(plugin: partial) -> None:
    """Compare a plug-in's settings with its signature; SettingError names the nearest one."""
    parameters = inspect.signature(plugin.func).parameters.values()
    settings = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for name, value in plugin.keywords.items():
        if name not in settings:
            raise SettingError(
                name, f"is no setting of {plugin.func.__name__}", hint=nearest(name, settings)
            )
        if isinstance(value, partial):
            with owned(name):
                bind(value)
    missing = [name for name in settings if name not in plugin.keywords]
    if missing:
        raise SettingError(missing[0], f"is needed by {plugin.func.__name__}")
    check_types(plugin.func, plugin.keywords)


def check_types(annotated: Any, values: dict[str, Any]) -> None:
    """SettingError for the first value not of its annotated type; a whole number is a float too."""
    for name, hint in get_type_hints(annotated).items():
        if name in values and not fits(values[name], hint):
            raise SettingError(name, f"must be {described(hint)}", shown(values[name]))


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type the hint allows, contents too; nan is no number."""
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind is UnionType:
        return any(fits(value, one) for one in inside)
    if isinstance(value, bool):
        return kind is bool
    if not isinstance(value, (int, float) if kind is float else kind) or value != value:
        return False
    if isinstance(value, int) and abs(value) >= 2**63:
        return False  # no tensor, no generator and no file takes it
    contents = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    )
    return all(fits(one, inside[-1]) for one in contents) if inside else True


def shown(value: Any) -> Any:
    """A value as it stands in a message: text in quotation marks, nothing as null."""
    return "null" if value is None else repr(value) if isinstance(value, str) else value


def described(hint: Any, many: bool = False) -> str:
    """A hint in words: of one value, or of many."""
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind is UnionType:
        return " or ".join(dict.fromkeys(described(one, many) for one in inside))
    if kind in (list, dict) and inside:
        return f"a {'list of' if kind is list else 'mapping to'} {described(inside[-1], many=True)}"
    if is_dataclass(kind) or kind in (partial, dict):
        return "a group of settings"
    return WORDS[kind][many] if kind in WORDS else kind.__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the settings that exist, the nearest first if one is near."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"it has {', '.join(known) or 'none'}"
