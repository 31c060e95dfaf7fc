"""The command ``mint-store``: what lies in a store, and what of it may go."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mint_cli import files
from mint_cli.errors import DataError, SettingError, sentence
from mint_cli.files import DAY, METRICS, SECONDS, SUMS, TENSORS

KEY = re.compile(r"\b[0-9a-f]{24}\b")
STAGE = re.compile(r"[a-z][a-z0-9_]*")
LOCK = re.compile(r"([a-z][a-z0-9_]*)-([0-9a-f]{24})")


@dataclass(frozen=True)
class Entry:
    """An artifact, or what a killed job has left, with why it may go."""

    path: Path
    why: str = ""

    @property
    def key(self) -> str:
        return self.path.name

    @cached_property
    def size(self) -> int:
        """Bytes of all files."""
        inside = [self.path, *self.path.rglob("*")] if self.path.is_dir() else [self.path]
        return sum(one.lstat().st_size for one in inside if not one.is_dir() or one.is_symlink())

    @cached_property
    def age(self) -> float:
        """Seconds since it was written."""
        return max(0.0, time.time() - self.path.lstat().st_mtime)

    @cached_property
    def inputs(self) -> Any:
        """What it was made of, as its key describes it; None where that cannot be read."""
        try:
            return json.loads(files.read(self.path / METRICS))["inputs"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None


def artifacts(root: Path) -> dict[str, Entry]:
    """The artifacts of a store by key; folders with anything else in them are none."""
    found = {}
    for path in sorted(root.glob("*/*")):
        if STAGE.fullmatch(path.parent.name) and KEY.fullmatch(path.name) and path.is_dir():
            if {one.name for one in path.iterdir()} <= {TENSORS, METRICS, SECONDS, SUMS}:
                found[path.name] = Entry(path)
    return found


def leftovers(root: Path) -> list[Entry]:
    """What killed jobs have left: files aside, progress and locks, a day old if still of use."""
    stages = [path for path in root.glob("*") if STAGE.fullmatch(path.name)]
    beside_artifacts = [path for stage in stages for path in sorted(stage.glob(".*"))]
    found = [Entry(path, "leftover") for path in beside_artifacts if files.is_leftover(path, DAY)]
    for path in sorted(root.glob(".locks/*")):
        if (lock := LOCK.fullmatch(path.name)) and not files.is_finished(root / lock[1] / lock[2]):
            found += [entry] if (entry := Entry(path, "leftover lock")).age > DAY else []
    return found


def check_store(root: Path) -> None:
    """DataError for a folder that is no store."""
    if not root.is_dir():
        raise DataError(f"there is no store at {root}")
    if not artifacts(root) and not any(LOCK.fullmatch(p.name) for p in root.glob(".locks/*")):
        raise DataError(f"{root} does not look like a store: no artifact lies at STAGE/KEY in it")


def steps(described: Any) -> Iterator[str]:
    """Keys of the steps in the description of inputs."""
    if isinstance(described, dict) and isinstance(described.get("step"), str):
        yield described["step"]
    elif isinstance(described, dict | list):
        for one in described.values() if isinstance(described, dict) else described:
            yield from steps(one)


def with_needed(keys: set[str], known: dict[str, Entry]) -> list[str]:
    """Keys, then those of all artifacts that were needed to make them."""
    found, waiting = {}, [*keys]
    while waiting:
        if (key := waiting.pop()) not in found:
            found[key] = True
            waiting += steps(known[key].inputs) if key in known else []
    return list(found)


def in_use(keys: set[str], known: dict[str, Entry]) -> set[str]:
    """Keys, those of what they were made of, and of their evaluations, which no record names."""
    used = set(with_needed(keys, known))
    evaluations = {key: e for key, e in known.items() if e.path.parent.name == "evaluate"}
    return used | {key for key, e in evaluations.items() if used.issuperset(steps(e.inputs))}


def made_of(entry: Entry, known: dict[str, Entry]) -> str:
    """The plug-ins and seeds that an artifact and those before it were made of, each once."""
    if entry.inputs is None:
        return "(cannot be read)"
    line = [known[key].inputs for key in with_needed({entry.key}, known) if key in known]
    return " ".join(dict.fromkeys(word for inputs in line for word in words(inputs)))


def words(described: Any) -> Iterator[str]:
    """Names of plug-ins in a description of inputs, and seeds but for those of plug-ins."""
    if isinstance(described, dict) and isinstance(described.get("plug-in"), str):
        yield described["plug-in"].rpartition(".")[2]
        yield from words(list((described.get("settings") or {}).values()))
    elif isinstance(described, dict):
        for name, value in described.items():
            yield from [f"seed={value}"] if name == "seed" else words(value)
    elif isinstance(described, list):
        for one in described:
            yield from words(one)


def records(folder: Path) -> Iterator[Path]:
    """Every record.json below a folder, through links too; OSError where it cannot look."""

    def stop(error: OSError) -> None:
        raise error

    seen = set()
    for at, inside, names in os.walk(folder, onerror=stop, followlinks=True):
        if (real := os.path.realpath(at)) in seen:
            inside.clear()
        elif "record.json" in names:
            yield Path(at) / "record.json"
        seen.add(real)


def named_by_records(folders: list[Path]) -> set[str]:
    """The keys that the records below some folders name; DataError where that is not certain."""
    keys = set()
    for folder in folders:
        if not (found := [*records(folder)]):
            raise DataError(f"there is no record.json below {folder}; nothing is removed")
        for path in found:
            try:
                keys |= {*KEY.findall(json.dumps(json.loads(files.read(path))["artifacts"]))}
            except (ValueError, KeyError, TypeError, RecursionError):
                raise DataError(f"{path} does not say what it uses; nothing is removed") from None
    return keys


def removable(root: Path, unused_by: list[Path], days: float | None, damaged: bool) -> list[Entry]:
    """What may go: leftovers, damaged artifacts, and artifacts that are unused and old enough."""
    known, found = artifacts(root), leftovers(root)
    if unused_by or days is not None:
        used = in_use(named_by_records(unused_by), known)
        why = "unused" if unused_by else "old"
        old = [e for key, e in known.items() if key not in used and e.age >= (days or 0.0) * DAY]
        found += [Entry(e.path, why) for e in old]
    if damaged:
        found += [Entry(e.path, why) for e in known.values() if (why := damage(e.path))]
    return list({entry.path: entry for entry in found}.values())


def damage(folder: Path) -> str:
    """Why an artifact cannot be used, empty if it can."""
    from mint_cli.store import DAMAGE, load  # heavy: not for listing

    try:
        load(folder)
    except DAMAGE as error:
        return f"damaged ({error})"
    return ""


def take_away(path: Path) -> None:
    """Remove an artifact or a leftover; under its name it is whole or gone."""
    aside = path if path.name.startswith(".") else path.rename(files.beside(path))
    files.remove(aside)
    if os.path.lexists(aside):
        raise DataError(f"{aside} cannot be removed")


def show(root: Path) -> None:
    """Print every artifact, then how much there is."""
    known, left = artifacts(root), leftovers(root)
    for entry in sorted(known.values(), key=lambda e: (e.path.parent.name, e.age)):
        start = f"{entry.path.parent.name:<9} {entry.key} {in_bytes(entry.size):>9}"
        print(f"{start} {in_days(entry.age):>7}  {made_of(entry, known)}")
    print(f"{len(known)} artifacts, {in_bytes(sum(e.size for e in known.values()))}")
    if left:
        print(f"{len(left)} leftovers of killed jobs, {in_bytes(sum(e.size for e in left))}")


def clean(root: Path, found: list[Entry], dry_run: bool) -> None:
    """Remove what was found, saying what."""
    freed = 0
    for entry in found:
        size = entry.size
        if not dry_run:
            take_away(entry.path)
        freed += size
        verb = "would remove" if dry_run else "removed"
        print(f"{verb} {entry.path.relative_to(root)} ({in_bytes(size)}): {entry.why}")
    print(f"{'would free' if dry_run else 'freed'} {in_bytes(freed)}")


def in_bytes(size: float) -> str:
    """A size in words, by thousands."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def in_days(seconds: float) -> str:
    """An age in words."""
    for unit, length in (("d", DAY), ("h", 3600.0)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 60:.0f} min"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="mint-store", description="Look into a store of finished artifacts, or clean it."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("list", help="every artifact: stage, key, size, age, made of what")
    add.add_argument("store", nargs="?", type=Path, default=Path("outputs/store"), metavar="STORE")
    add = commands.add_parser(
        "clean",
        help="remove leftovers of killed jobs and the artifacts that the options name",
        description="Remove what killed jobs have left, and the artifacts that the options name. "
        "Whatever uses an artifact uses what that one was made of and its evaluations, too.",
    )
    add.add_argument("store", nargs="?", type=Path, default=Path("outputs/store"), metavar="STORE")
    add.add_argument(
        "--unused-by",
        nargs="+",
        action="extend",
        type=Path,
        default=[],
        metavar="RUNS",
        help="artifacts that no record.json below these folders uses (a running job has none yet)",
    )
    add.add_argument(
        "--older-than",
        type=float,
        metavar="DAYS",
        help="of the artifacts of --unused-by, or of all without it, those of so many days",
    )
    add.add_argument("--damaged", action="store_true", help="artifacts that fail their checksums")
    add.add_argument("--dry-run", action="store_true", help="say what would go, remove nothing")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> None:
    """Check, then do as told."""
    check_store(options.store)
    if options.command == "list":
        return show(options.store)
    days = options.older_than
    if days is not None and not 0 <= days < math.inf:
        raise SettingError("--older-than", "must be a number of days from 0 on", days)
    found = removable(options.store, options.unused_by, days, options.damaged)
    clean(options.store, found, options.dry_run)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``mint-store``: 0, or 1 after one sentence on stderr."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # paths may hold what a terminal cannot write
    try:
        run(arguments(argv))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, SettingError, DataError) as error:
        print(f"mint-store: {sentence(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
