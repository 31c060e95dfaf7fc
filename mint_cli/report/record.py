"""Records: every ``record.json`` below some folders as settings, numbers and predictions."""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from mint_cli.errors import DataError, shortened
from mint_cli.report.schema import (
    LATER,
    SCHEMAS,
    config_of_today,
    record_of_today,
    settings_of_today,
    within,
)

NAMES = ("dataset", "model", "pruner", "schedule")  # the four groups a user chooses from
SHARES = ("sparsity.total", "sparsity.of_all_weights")
PLACES = ("data", "store", "output", "hydra")  # where a run lies is no setting to compare
APART = (  # of a record, holds no numbers measured
    *("schema", "seed", "threads", "images", "config", "environment", "artifacts"),
)
LARGEST = 4 << 20  # bytes of a file that can be a record
HUGE = 1e100  # nothing measured is as large


class Bits(NamedTuple):
    """Which test images a network classified right: one bit an image, 1 = right, eight a byte."""

    packed: bytes
    images: int


@dataclass(frozen=True)
class Record:
    """One readable ``record.json``: what was set, with which seeds, and what was measured.

    ``threads`` is empty where unknown; ``correct`` holds predictions by state (dense, pruned,
    retrained); ``lost`` names numbers that are not finite; ``finished`` is a time in ISO 8601.
    """

    settings: dict[str, str]
    seeds: tuple[tuple[str, str], ...]
    threads: str
    numbers: dict[str, float]
    rounds: tuple[dict[str, float], ...]
    correct: dict[str, Bits]
    denominators: dict[str, str]
    finished: str
    lost: list[str] = field(default_factory=list)

    @property
    def identity(self) -> tuple[tuple[str, str], ...]:
        """The configuration as one hashable value."""
        return tuple(sorted(self.settings.items()))


def text(value: Any) -> str:
    """Write a setting as a user would type it: ``1.0`` and ``1`` are the same."""
    if isinstance(value, str):
        return value
    return json.dumps(whole(value), sort_keys=True, ensure_ascii=False)


def whole(value: Any) -> Any:
    """The value with floats that are whole numbers as integers, in lists too."""
    if isinstance(value, list):
        return [whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves of nested mappings under dotted names.

    A plug-in (a mapping whose ``_target_`` is a function) also stands as its function's name; a
    value (whose target is a class, such as ``Recipe``) is no choice and stands for its leaves only.
    """
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if key == "_target_" and prefix:
            module, _, function = str(value).rpartition(".")
            module = module.rpartition(".")[2]
            if not function[:1].isupper():
                alone = module in ("", function)
                leaves[prefix[:-1]] = function if alone else f"{module}.{function}"
        elif isinstance(value, dict) and value:
            leaves |= flatten(value, f"{prefix}{key}.")
        elif not key.startswith("_"):
            leaves[prefix + key] = value
    return leaves


def denominators(record: dict[str, Any]) -> dict[str, str]:
    """What the two sparsities of a record are shares of, in words."""
    weights = record.get("weights") or {}
    layers = list((record.get("sparsity") or {}).get("layers") or {})
    where = f" ({', '.join(layers)})" if layers else ""
    if len(layers) > 4:
        where = f" ({layers[0]} … {layers[-1]}, {len(layers)} layers)"
    count = {
        key: f"{weights[key]:,} " if isinstance(weights.get(key), int) else ""
        for key in ("prunable", "all")
    }
    return {
        SHARES[0]: f"{count['prunable']}prunable weights{where}",
        SHARES[1]: f"{count['all']}conv and linear weights",
    }


def finite(value: float) -> bool:
    """Whether a number can be computed with: neither NaN nor infinite nor of hundreds of digits."""
    return abs(value) < HUGE


def numbers(tree: dict[str, Any]) -> tuple[dict[str, float], list[str]]:
    """Every number of a mapping under its dotted name, and the names of those not finite."""
    found = {k: v for k, v in flatten(tree).items() if type(v) in (int, float)}
    lost = [key for key, value in found.items() if not finite(value)]
    return {key: value for key, value in found.items() if finite(value)}, lost


def named(found: dict[str, float]) -> dict[str, float]:
    """The numbers with ``drop``, ``agreement`` and ``seconds`` beside them."""
    short = {"agreement": "reliability.agreement", "seconds": "seconds.total"}
    found = found | {key: found[long] for key, long in short.items() if long in found}
    if {"accuracy.dense", "accuracy.retrained"} <= found.keys():
        # within one record, so paired by seed
        found["drop"] = found["accuracy.dense"] - found["accuracy.retrained"]
    return found


def predictions(record: dict[str, Any]) -> dict[str, Bits]:
    """The predictions of a record by state; a ValueError where they cannot be its accuracy's."""
    accuracy = record.get("accuracy") or {}
    return {
        state: unpacked(packed, accuracy[state], state)
        for state, packed in (record.get("correct") or {}).items()
        if packed and accuracy.get(state) is not None
    }


def unpacked(packed: str, accuracy: float, state: str) -> Bits:
    """Decode base64 of zlib; the number of images is the one that gives the accuracy."""
    try:
        inflate = zlib.decompressobj()
        content = inflate.decompress(base64.b64decode(packed, validate=True), LARGEST)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"correct.{state} cannot be decoded ({error})") from error
    right, most = int.from_bytes(content).bit_count(), 8 * len(content)
    counts = range(most, max(most - 8, 0), -1)
    images = min(counts, key=lambda n: abs(right / n - accuracy), default=0)
    agree = images and abs(right / images - accuracy) <= 1e-6  # not so where it is NaN
    if not inflate.eof or not agree:
        raise ValueError(f"correct.{state} and accuracy.{state} do not agree")
    return Bits(content, images)


def content(path: Path) -> str:
    """Text of a regular file; a pipe is not opened, because that could wait for ever."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise DataError(f"{path} is not a regular file")
    if about.st_size > LARGEST:
        raise DataError(f"{path} has {about.st_size} bytes, a record at most {LARGEST}")
    return path.read_text(encoding="utf-8")


def read(path: Path) -> Record:
    """Read one record; a damaged one is a ``DataError`` that says why."""
    try:
        raw = json.loads(content(path))
        if raw["schema"] not in SCHEMAS:
            known = " and ".join(map(str, SCHEMAS))
            raise DataError(
                f"{path} has schema {shortened(raw['schema'])}, this mint-table reads {known}"
            )
        if not raw.get("finished"):
            raw["finished"] = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()
        return parsed(raw)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise DataError(f"{path} is not a record: {shortened(error)} is missing") from error
    except RecursionError as error:
        raise DataError(f"{path} is damaged: it is nested too deeply") from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"{path} is damaged: {shortened(error)}") from error


def parsed(raw: dict[str, Any]) -> Record:
    """A record of what its JSON holds."""
    leaves = flatten(config_of_today(raw["config"]))
    if raw["schema"] == 1:
        leaves = settings_of_today(leaves)
        raw = record_of_today(raw, leaves)
    leaves = LATER | leaves
    leaves |= {name: raw[name] for name in NAMES if name in raw} | {"seed": raw["seed"]}
    if raw.get("checkpoint"):  # the same content is the same network wherever it lies
        leaves["checkpoint"] = f"{Path(leaves['checkpoint']).name}:{raw['checkpoint'][:8]}"
    if (raw.get("sparsity") or {}).get("asked", 0) is None:  # a threshold decided
        leaves["pruner.sparsity"] = None
    idle = without_effect(raw, leaves)
    leaves = {
        key: text(value) for key, value in leaves.items() if not within(key, (*PLACES, *idle))
    }
    leaves.pop("threads", None)  # what was asked for; the number that it came to is the record's
    seeds = {key: leaves.pop(key) for key in list(leaves) if is_seed(key)}
    threads = text(raw["threads"]) if raw.get("threads") else ""
    found, lost = numbers({key: value for key, value in raw.items() if key not in APART})
    rounds = tuple(numbers(one)[0] for one in raw.get("rounds") or ())
    shares, finished = denominators(raw), str(raw["finished"])
    of_rounds = {key for one in rounds for key in one}
    words = [*leaves, *leaves.values(), *found, *of_rounds, *shares.values()]
    "".join(words).encode()  # a ValueError for text that no file or screen can take
    return Record(
        leaves,
        tuple(sorted(seeds.items())),
        threads,
        named(found),
        rounds,
        predictions(raw),
        shares,
        finished,
        lost,
    )


def without_effect(raw: dict[str, Any], leaves: dict[str, Any]) -> list[str]:
    """Settings of stages that did not take place: they tell no results apart."""
    idle = []
    if "reliability" in raw and raw["reliability"] is None:  # no score was computed
        idle.append("pruner.criterion")
    if raw.get("checkpoint") and not leaves["checkpoint_new"]:
        idle.append("schedule.train")
    if leaves.get("schedule.retrain.epochs") == 0:
        retraining = [key for key in leaves if within(key, ["schedule.retrain"])]
        idle += [key for key in retraining if not key.endswith(".epochs")]
    return idle


def is_seed(key: str) -> bool:
    """Whether a setting is a seed, by its name."""
    return key.rpartition(".")[2] in ("seed", "seeds") or key.endswith("_seed")


def unfinished(path: Path) -> str:
    """One phrase on a run from its ``status.json``; empty when it neither failed nor stopped."""
    try:
        status = json.loads(content(path))
        state = status["state"]
        if state not in ("failed", "interrupted", "running"):
            return ""
        stage = f"in {status['stage']}" if status.get("stage") else ""
        error = f"({status['error']})" if status.get("error") else ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, DataError):
        return ""
    words = " ".join(word for word in (state, stage, error) if word)
    return f"{path.parent}: {' '.join(words.split())}"


def gather(folders: Iterable[Path]) -> tuple[list[Record], list[str], list[str]]:
    """Find the records below ``folders``; also phrases on unfinished runs, and warnings.

    A configuration, seed and number of threads counts once, the latest.  A run that is not
    finished may stand in the folder of an earlier one, whose record counts.
    """
    latest: dict[Any, Record] = {}
    stopped, warnings = [], []

    def refused(error: OSError) -> None:
        warnings.append(f"{error.filename} cannot be read: {error.strerror}")

    for folder in folders:
        if not os.path.isdir(folder):
            raise DataError(f"there is no folder {folder}")
        for root, inner, files in sorted(os.walk(folder, onerror=refused)):
            if "status.json" in files:
                stopped += filter(None, [unfinished(Path(root, "status.json"))])
            if "record.json" not in (*inner, *files):
                continue
            try:
                record = read(Path(root, "record.json"))
            except DataError as error:
                warnings.append(str(error))
                continue
            if record.lost:
                lost = ", ".join(record.lost[:6]) + (", …" if len(record.lost) > 6 else "")
                warnings.append(f"{Path(root, 'record.json')}: left out, not finite: {lost}")
            key = (record.identity, record.seeds, record.threads)
            latest[key] = max(latest.get(key, record), record, key=lambda one: one.finished)
    return list(latest.values()), list(dict.fromkeys(stopped)), list(dict.fromkeys(warnings))
