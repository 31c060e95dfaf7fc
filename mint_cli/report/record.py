"""Records: every ``record.json`` below some folders as settings and numbers, the literature's rows, and averages over seeds."""

from __future__ import annotations

import csv
import json
import math
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

SCHEMA = 1
NAMES = ("dataset", "model", "pruner", "schedule")  # the four groups a user chooses from
SHARES = ("sparsity.total", "sparsity.of_all_weights")
PLACES = ("data", "store", "output", "hydra", "threads")  # where a run lies and how many threads it took is no setting to compare


class Fault(Exception):
    """Input that makes no table; the message is one sentence that names the path or the column."""


class Stat(NamedTuple):
    """Mean and sample standard deviation of ``n`` numbers; sd is None for one number, n is None where unknown (published)."""

    mean: float
    sd: float | None
    n: int | None


@dataclass(frozen=True)
class Record:
    """One readable ``record.json``: what was set, with which seeds, the numbers measured, and when (ISO 8601)."""

    settings: dict[str, str]
    seeds: tuple[tuple[str, str], ...]
    numbers: dict[str, float]
    denominators: dict[str, str]
    finished: str

    @property
    def identity(self) -> tuple[tuple[str, str], ...]:
        """The configuration as one hashable value."""
        return tuple(sorted(self.settings.items()))


@dataclass(frozen=True)
class Row:
    """One line of the table; ``source`` says where a published one was found and is empty for a measured one."""

    settings: dict[str, str]
    metrics: dict[str, Stat]
    denominators: dict[str, str] = field(default_factory=dict)
    source: str = ""


def text(value: Any) -> str:
    """Write a setting as a user would type it: ``1.0`` and ``1`` are the same."""
    return value if isinstance(value, str) else json.dumps(whole(value), sort_keys=True, ensure_ascii=False)


def whole(value: Any) -> Any:
    """The value with floats that are whole numbers as integers, in lists too."""
    if isinstance(value, list):
        return [whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves of nested mappings under dotted names; a plug-in (a mapping with ``_target_``) also stands as its function's name."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if key == "_target_" and prefix:
            module, _, function = str(value).rpartition(".")
            module = module.rpartition(".")[2]
            leaves[prefix[:-1]] = function if module in ("", function) else f"{module}.{function}"
        elif isinstance(value, dict) and value:
            leaves |= flatten(value, f"{prefix}{key}.")
        elif not key.startswith("_"):
            leaves[prefix + key] = value
    return leaves


def denominators(record: dict[str, Any]) -> dict[str, str]:
    """What the two sparsities of a record are shares of, in words."""
    weights, layers = record.get("weights") or {}, list((record.get("sparsity") or {}).get("layers") or {})
    where = f" ({layers[0]} … {layers[-1]}, {len(layers)} layers)" if len(layers) > 4 else f" ({', '.join(layers)})" if layers else ""
    count = {key: f"{weights[key]:,} " if isinstance(weights.get(key), int) else "" for key in ("prunable", "all")}
    return {SHARES[0]: f"{count['prunable']}prunable weights{where}", SHARES[1]: f"{count['all']}conv and linear weights"}


def numbers(record: dict[str, Any]) -> dict[str, float]:
    """Every finite number of a record under its dotted name, with ``drop``, ``agreement`` and ``seconds`` beside them."""
    leaves = flatten({key: value for key, value in record.items() if key not in ("config", "environment", "artifacts", "seed", "schema")})
    found = {key: value for key, value in leaves.items() if type(value) in (int, float) and math.isfinite(value)}
    for short, long in (("agreement", "signal.agreement"), ("seconds", "seconds.total")):
        if long in found:
            found[short] = found[long]
    if {"accuracy.dense", "accuracy.retrained"} <= found.keys():
        found["drop"] = found["accuracy.dense"] - found["accuracy.retrained"]  # within one record, so paired by seed
    return found


def read(path: Path) -> Record:
    """Read one record; a damaged one is a ``Fault`` that says why."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] != SCHEMA:
            raise Fault(f"{path} has schema {raw['schema']}, this mint-table reads schema {SCHEMA}")
        leaves = flatten(raw["config"]) | {name: raw[name] for name in NAMES if name in raw} | {"seed": raw["seed"]}
        if raw.get("checkpoint"):  # the same content is the same network wherever it lies
            leaves["model.weights"] = f"{Path(leaves['model.weights']).name}:{raw['checkpoint'][:8]}"
        finished = raw.get("finished") or datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()
        leaves = {key: text(value) for key, value in leaves.items() if key.partition(".")[0] not in PLACES}
        seeds = {key: leaves.pop(key) for key in list(leaves) if key.rpartition(".")[2] in ("seed", "seeds") or key.endswith("_seed")}
        return Record(leaves, tuple(sorted(seeds.items())), numbers(raw), denominators(raw), str(finished))
    except OSError as error:
        raise Fault(f"{path} cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise Fault(f"{path} is not a record: {error} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise Fault(f"{path} is damaged: {error}") from error


def unfinished(path: Path) -> str:
    """One phrase on a run from its ``status.json``; empty when it neither failed nor stopped half-way."""
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
        state = status["state"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    if state not in ("failed", "running"):
        return ""
    words = (state, f"in {status['stage']}" if status.get("stage") else "", f"({status['error']})" if status.get("error") else "")
    return f"{path.parent}: " + " ".join(" ".join(word for word in words if word).split())


def gather(folders: Iterable[Path]) -> tuple[list[Record], list[str], list[str]]:
    """Find the records below ``folders``, each configuration and seed once (the latest); also phrases on unfinished runs and warnings.

    A run that is not finished may stand in the folder of an earlier one, whose record counts.
    """
    latest: dict[Any, Record] = {}
    stopped, warnings = [], []
    for folder in folders:
        if not folder.is_dir():
            raise Fault(f"there is no folder {folder}")
        for root, _, files in sorted(os.walk(folder)):
            if "status.json" in files:
                stopped += filter(None, [unfinished(Path(root, "status.json"))])
            if "record.json" not in files:
                continue
            try:
                record = read(Path(root, "record.json"))
            except Fault as fault:
                warnings.append(str(fault))
                continue
            key = (record.identity, record.seeds)
            latest[key] = max(latest.get(key, record), record, key=lambda one: one.finished)
    return list(latest.values()), list(dict.fromkeys(stopped)), list(dict.fromkeys(warnings))


def published(pairs: set[tuple[str | None, str | None]]) -> list[Row]:
    """The literature's rows for (dataset, model) pairs, in the order of ``published.csv``."""
    with open(Path(__file__).with_name("published.csv"), encoding="utf-8", newline="") as file:
        return [literature(entry) for entry in csv.DictReader(file) if (entry["dataset"], entry["model"]) in pairs]


def literature(entry: dict[str, str]) -> Row:
    """One line of ``published.csv`` as a row: fc2 counts as the prunable weights, everything else as the whole network."""
    share = SHARES[0] if entry["denominator"] == "fc2" else SHARES[1]
    values = {"accuracy.dense": entry["baseline"], "accuracy.retrained": entry["accuracy"]}
    found = {key: float(value) for key, value in values.items() if value}
    if len(found) == 2:
        found["drop"] = found["accuracy.dense"] - found["accuracy.retrained"]
    if entry["sparsity_percent"]:
        found[share] = float(entry["sparsity_percent"] + "e-2")  # 96.2 is 0.962 and not 0.9620000000000001
    settings = {"dataset": entry["dataset"], "model": entry["model"], "pruner": f"{entry['method']} (published)"}
    words = (entry["source"], "structured" if entry["structured"] == "yes" else "unstructured", entry["note"])
    stats = {key: Stat(value, None, None) for key, value in found.items()}
    return Row(settings, stats, {share: f"{entry['denominator']} (published rows)"}, "; ".join(word for word in words if word))


def stat(values: Sequence[float]) -> Stat:
    """Mean and sample standard deviation (n − 1), correctly rounded, so that equal numbers keep their value and spread 0."""
    return Stat(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def average(records: Iterable[Record]) -> list[Row]:
    """One row per configuration, every number averaged over the seeds that have it."""
    alike: dict[Any, list[Record]] = {}
    for record in sorted(records, key=lambda one: (one.identity, one.seeds)):
        alike.setdefault(record.identity, []).append(record)
    rows = []
    for group in alike.values():
        keys = dict.fromkeys(key for one in group for key in one.numbers)
        metrics = {key: stat([one.numbers[key] for one in group if key in one.numbers]) for key in keys}
        rows.append(Row(group[0].settings, metrics, group[0].denominators))
    return rows
