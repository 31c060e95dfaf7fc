"""Rows of a table: records averaged over seeds, their rounds, and what the literature printed."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mint_cli.report.record import SHARES, Record


class Stat(NamedTuple):
    """Mean and sample standard deviation of ``n`` numbers; sd is None for one, n where unknown."""

    mean: float
    sd: float | None
    n: int | None


@dataclass(frozen=True)
class Row:
    """One line of the table; ``source`` says where a published one was found."""

    settings: dict[str, str]
    metrics: dict[str, Stat]
    denominators: dict[str, str] = field(default_factory=dict)
    source: str = ""
    records: tuple[Record, ...] = ()


def number(value: str) -> float | str:
    """A setting as a number where it is one."""
    try:
        return float(value)
    except ValueError:
        return value


def stat(values: Sequence[float]) -> Stat:
    """Mean and sample standard deviation (n − 1), so rounded that equal numbers have spread 0."""
    spread = statistics.stdev(values) if len(values) > 1 else None
    return Stat(statistics.mean(values), spread, len(values))


def stats(measured: Sequence[dict[str, float]]) -> dict[str, Stat]:
    """Every number averaged over those that have it."""
    keys = dict.fromkeys(key for one in measured for key in one)
    return {key: stat([one[key] for one in measured if key in one]) for key in keys}


def average(records: Iterable[Record]) -> list[Row]:
    """One row per configuration, every number averaged over the seeds that have it."""
    alike: dict[Any, list[Record]] = {}
    for one in sorted(records, key=lambda one: (one.identity, one.seeds, one.threads)):
        alike.setdefault(one.identity, []).append(one)
    return [merged(part) for group in alike.values() for part in by_threads(group)]


def by_threads(group: list[Record]) -> list[list[Record]]:
    """All records of a configuration, or where one seed has several those of each thread count."""
    if len({one.seeds for one in group}) == len(group):
        return [group]
    parts: dict[str, list[Record]] = {}
    for one in group:
        parts.setdefault(one.threads, []).append(one)
    return list(parts.values())


def merged(group: Sequence[Record]) -> Row:
    """The row of some seeds; ``threads`` lists their thread counts."""
    threads = ", ".join(sorted({one.threads for one in group if one.threads}, key=by_number))
    settings = group[0].settings | ({"threads": threads} if threads else {})
    metrics = stats([one.numbers for one in group])
    return Row(settings, metrics, group[0].denominators, records=tuple(group))


def by_number(value: str) -> tuple[bool, float | str]:
    """To sort settings: numbers by value, before words."""
    found = number(value)
    return isinstance(found, str), found


def by_round(rows: Iterable[Row]) -> list[Row]:
    """A row for every round of the rows that have several."""
    found = []
    for row in rows:
        count = max((len(one.rounds) for one in row.records), default=0)
        for place in range(count if count > 1 else 0):
            metrics = stats([one.rounds[place] for one in row.records if place < len(one.rounds)])
            settings = row.settings | {"round": str(place + 1)}
            found.append(Row(settings, metrics, row.denominators, records=row.records))
    return found


def published(pairs: set[tuple[str | None, str | None]]) -> list[Row]:
    """The literature's rows for (dataset, model) pairs, in the order of ``published.csv``."""
    path = Path(__file__).with_name("published.csv")
    with open(path, encoding="utf-8", newline="") as file:
        entries = list(csv.DictReader(file))
    return [literature(entry) for entry in entries if (entry["dataset"], entry["model"]) in pairs]


def literature(entry: dict[str, str]) -> Row:
    """One line of ``published.csv``: fc2 counts as prunable weights, all else as the network."""
    share = SHARES[0] if entry["denominator"] == "fc2" else SHARES[1]
    values = {"accuracy.dense": entry["baseline"], "accuracy.retrained": entry["accuracy"]}
    found = {key: float(value) for key, value in values.items() if value}
    if len(found) == 2:
        found["drop"] = found["accuracy.dense"] - found["accuracy.retrained"]
    if entry["sparsity_percent"]:
        found[share] = float(entry["sparsity_percent"] + "e-2")  # 96.2 is exactly .962
    pruner = f"{entry['method']} (published)"
    settings = {"dataset": entry["dataset"], "model": entry["model"], "pruner": pruner}
    kind = "structured" if entry["structured"] == "yes" else "unstructured"
    source = "; ".join(word for word in (entry["source"], kind, entry["note"]) if word)
    metrics = {key: Stat(value, None, None) for key, value in found.items()}
    return Row(settings, metrics, {share: f"{entry['denominator']} (published rows)"}, source)
