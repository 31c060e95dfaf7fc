"""YAML files, looked over before anything is built of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from mint_cli.errors import DataError

MOST_BYTES = 100_000
MOST_DEPTH = 20  # mappings and lists inside one another
MOST_VALUES = 5_000  # with every alias written out
MOST_DIGITS = 100  # of a number

PREFIX = "tag:yaml.org,2002:"
PLAIN = {PREFIX + kind for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}
KEYS = {PREFIX + kind for kind in ("str", "int", "merge")}
NUMBERS = {PREFIX + kind for kind in ("int", "float")}
LOADER = yaml.SafeLoader("")
FAST = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)  # the same events, from libyaml where it is there


@dataclass
class Open:
    """A mapping or list whose end has not come yet."""

    anchor: str | None
    mapping: bool
    values: int = 1  # it holds, itself counted, aliases written out
    children: int = 0
    keys: set[str] = field(default_factory=set)

    @property
    def at_key(self) -> bool:
        """Whether the next child is a key."""
        return self.mapping and self.children % 2 == 0


def check(path: Path) -> None:
    """DataError with file and line unless the file is a small UTF-8 YAML file of one plain mapping.

    Aliases are counted as often as they stand for something, never written out: what is refused
    here (a list of a billion elements in nine lines) would never end where it is read.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise DataError(
            f"{path} is larger than {MOST_BYTES:,} bytes, the most that a configuration may have"
        )
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8 text") from error
    try:
        look_over(yaml.parse(text, FAST))
    except Refused as error:
        raise DataError(f"{path}, line {error.line}: {error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise DataError(
            f"{path}, line {mark.line + 1 if mark else 1}: {error.problem or error}"
        ) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise DataError(f"{path}, line {line}: a character that YAML does not allow") from error


class Refused(Exception):
    """What a configuration may not hold, and the line that it is in."""

    def __init__(self, event: yaml.Event, reason: str) -> None:
        super().__init__(reason)
        self.line = event.start_mark.line + 1


def look_over(events: Iterator[yaml.Event]) -> None:
    """Refuse the first event of a YAML file that is none of a plain configuration's."""
    stack = [Open(None, False)]
    anchors: dict[str, int] = {}  # values that an anchor stands for
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            closed = stack.pop()
            anchors[closed.anchor or ""] = closed.values
            close(stack[-1], closed.values, event)
        elif isinstance(event, yaml.NodeEvent):
            check_place(stack, event)
            check_tag(event)
            if isinstance(event, yaml.CollectionStartEvent):
                anchors.pop(event.anchor or "", None)
                stack.append(Open(event.anchor, isinstance(event, yaml.MappingStartEvent)))
                if len(stack) > MOST_DEPTH:
                    raise Refused(
                        event, f"more than {MOST_DEPTH} mappings and lists inside one another"
                    )
            else:
                values = values_of(event, anchors)
                anchors[event.anchor or ""] = values
                close(stack[-1], values, event)


def close(parent: Open, values: int, event: yaml.Event) -> None:
    """A child of ``parent`` has come to its end."""
    parent.children += 1
    parent.values += values
    if parent.values > MOST_VALUES:
        raise Refused(event, f"more than {MOST_VALUES:,} values, aliases written out")


def values_of(event: yaml.NodeEvent, anchors: dict[str, int]) -> int:
    """How many values a scalar or an alias stands for."""
    if not isinstance(event, yaml.AliasEvent):
        return 1
    if event.anchor not in anchors:
        raise Refused(
            event, f"alias *{event.anchor} stands for nothing that has come to its end before"
        )
    return anchors[event.anchor]


def check_place(stack: list[Open], event: yaml.NodeEvent) -> None:
    """The file is one mapping; keys are text or whole numbers, each there once."""
    parent = stack[-1]
    if len(stack) == 1 and (parent.children or not top(event)):
        raise Refused(event, "a configuration is one mapping of names to values")
    if not parent.at_key:
        return
    if not isinstance(event, yaml.ScalarEvent) or tag(event) not in KEYS:
        shown = (
            repr(event.value) if isinstance(event, yaml.ScalarEvent) else "a list, mapping or alias"
        )
        raise Refused(event, f"a key must be text or a whole number, not {shown or 'null'}")
    if event.value in parent.keys:
        raise Refused(event, f"key {event.value!r} is there twice")
    parent.keys.add(event.value)


def top(event: yaml.NodeEvent) -> bool:
    """Whether a file may be this and nothing else: a mapping, or empty."""
    return isinstance(event, yaml.MappingStartEvent) or (
        isinstance(event, yaml.ScalarEvent) and tag(event) == PREFIX + "null"
    )


def check_tag(event: yaml.NodeEvent) -> None:
    """Values are plain, and what looks like a number is one, short enough to be read."""
    found = tag(event)
    written = not isinstance(event, yaml.AliasEvent) and event.tag
    if found not in PLAIN or (written and not isinstance(event, yaml.ScalarEvent)):
        raise Refused(
            event, f"a value of type {found.removeprefix(PREFIX)}: there may be plain values only"
        )
    if isinstance(event, yaml.ScalarEvent) and found != PREFIX + "merge":
        if found in NUMBERS and len(event.value) > MOST_DIGITS:
            raise Refused(event, f"a number of more than {MOST_DIGITS} digits")
        try:
            LOADER.construct_object(yaml.ScalarNode(found, event.value))
        except (ValueError, KeyError) as error:
            kind = found.removeprefix(PREFIX)
            raise Refused(event, f"{event.value[:MOST_DIGITS]!r} is no {kind}") from error


def tag(event: yaml.NodeEvent) -> str:
    """The type of a value, written or as YAML understands it."""
    if isinstance(event, yaml.AliasEvent):
        return PREFIX + "str"
    if event.tag:
        return event.tag
    if isinstance(event, yaml.ScalarEvent):
        found = LOADER.resolve(yaml.ScalarNode, event.value, event.implicit)
        return (
            PREFIX + "str" if found == PREFIX + "timestamp" else found
        )  # OmegaConf knows no dates
    return PREFIX + ("map" if isinstance(event, yaml.MappingStartEvent) else "seq")
