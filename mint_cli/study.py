"""``mint-study``: the runs of a study that are not done yet, then its tables and plots."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from mint_cli import plain_yaml
from mint_cli.commandline import CONF, composed, message
from mint_cli.compose import resolved
from mint_cli.errors import DataError, SettingError, owned
from mint_cli.report import table
from mint_cli.report.schema import LATER, config_of_today
from mint_cli.signatures import check_types, nearest

STUDIES = CONF / "study"
PLACES = ("data", "store", "device", "threads", "checkpoint")  # compared otherwise, or not at all


@dataclass(frozen=True)
class Study:
    """Sweeps, the folder of their records, and the tables made of them.

    ``settings`` hold for every sweep, whose own come after; a list is swept, anything else is
    written as on the command line.  A sweep's records go ``into`` a folder below ``folder``, each
    into one of its own, named by the values of the settings in ``name``.  ``needs`` are settings
    that only the user knows, and what they should be.
    """

    folder: str
    needs: dict[str, str]
    name: list[str]
    settings: dict
    sweeps: list[dict]
    tables: list[dict]


@dataclass(frozen=True)
class Cell:
    """One run of a study: the folder of its record, and the overrides that ``mint-run`` takes."""

    folder: Path
    overrides: tuple[str, ...]


def read(name: str) -> Study:
    """One of the package's studies, or that of any YAML file."""
    content = content_of(name)
    for key in {**content, **Study.__annotations__}:
        if key not in content or key not in Study.__annotations__:
            bound = "is missing" if key not in content else "is no part of a study"
            raise SettingError(f"study {name}: {key}", bound)
    with owned(f"study {name}"):
        check_types(Study, content)
    return Study(**content)


def content_of(name: str) -> dict[str, Any]:
    """A study's file, over what the study that it is ``like`` says; settings one by one."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else STUDIES / f"{name}.yaml"
    if not path.is_file():
        hint = nearest(name, [file.stem for file in sorted(STUDIES.glob("*.yaml"))])
        raise SettingError("study", "must be the name of a study or a YAML file", name, hint)
    plain_yaml.check(path)
    own = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    base = content_of(own.pop("like")) if "like" in own else {}
    return base | own | {"settings": {**base.get("settings", {}), **own.get("settings", {})}}


def choices(value: Any) -> list[str]:
    """The values that a setting takes in turn, as typed: those of a list, or the only one."""
    given = value if isinstance(value, list) else [value]
    return [one if isinstance(one, str) else json.dumps(one) for one in given]


def typed(settings: list[str]) -> dict[str, list[str]]:
    """Settings ``key=value`` or ``key=value,value``; commas in brackets separate nothing."""
    found = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not (key and equals):
            raise SettingError(setting, "sets nothing", hint="a setting is written name=value")
        found[key] = re.findall(r"(?:\[.*?\]|\{.*?\}|[^,])+", value) or [""]
    return found


def cells(study: Study, folder: Path, given: dict[str, list[str]]) -> list[Cell]:
    """Every combination of every sweep, the last setting varying fastest.

    Settings that are ``given`` replace the study's.
    """
    for key, what in study.needs.items():
        if key not in given:
            raise SettingError(key, f"is needed by this study: {what}")
    found: dict[Path, Cell] = {}
    for sweep in study.sweeps:
        merged = {k: choices(v) for k, v in (study.settings | sweep | given).items() if k != "into"}
        for key in [key for key, values in merged.items() if not values]:
            raise SettingError(
                key, "must have a value in a study: '[]' is the list without entries"
            )
        for values in product(*merged.values()):
            chosen = dict(zip(merged, values, strict=True))
            own = folder / sweep["into"] / "_".join(chosen[key] for key in study.name)
            if own in found:
                raise DataError(f"two runs of the study would write into {own}")
            found[own] = Cell(own, tuple(f"{key}={value}" for key, value in chosen.items()))
    return list(found.values())


def config_of(cell: Cell) -> dict[str, Any]:
    """What ``mint-run`` makes of a cell's overrides, nothing left to the machine settled yet."""
    return resolved(composed(list(cell.overrides)))


def unlike(record: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """Settings of a record that are not those of a configuration; whatever ``auto`` became fits."""
    made, wanted = LATER | dict(leaves(config_of_today(record["config"]))), dict(leaves(config))
    own = [k for k in made | wanted if k not in PLACES and wanted.get(k) != "auto"]
    own = [k for k in own if (k in made, made.get(k)) != (k in wanted, wanted.get(k))]
    start = wanted["checkpoint"] and hashlib.sha256(Path(wanted["checkpoint"]).read_bytes())
    if record["checkpoint"] != (start and start.hexdigest()):
        own.append("checkpoint")
    return own + ["threads"] * (wanted["threads"] not in (None, made["threads"]))


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings that are no mappings themselves, by their paths."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def state(cell: Cell) -> str:
    """``done``, ``to do``, or what is wrong with the record that is there."""
    path = cell.folder / "record.json"
    if not path.exists():
        return "to do"
    try:
        own = unlike(json.loads(path.read_text(encoding="utf-8")), config_of(cell))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "has a record that cannot be read"
    return f"has a record of other settings ({', '.join(own[:5])})" if own else "done"


def mint_run(cell: Cell) -> int:
    """Exit code of ``mint-run`` in a process of its own: whatever happens to it, others go on."""
    command = [sys.executable, "-m", "mint_cli.main", *cell.overrides]
    return subprocess.run([*command, f"hydra.run.dir='{cell.folder}'"]).returncode


def run(
    todo: list[Cell], base: Path, replace: bool, job: Callable[[Cell], int] = mint_run
) -> list[str]:
    """Run the cells that are not done, one after another; returns those that failed, and why."""
    failed = []
    for number, cell in enumerate(todo, 1):
        name, found = cell.folder.relative_to(base), state(cell)
        if found == "done":
            continue
        if found != "to do" and not replace:
            failed.append(f"{name} {found}; --replace makes it anew")
            continue
        say(f"[{number}/{len(todo)}] {name}")
        if code := job(cell):
            failed.append(f"{name} ended with exit code {code}")
    return failed


def table_arguments(folder: Path, entry: dict[str, Any]) -> list[str]:
    """The command line of ``mint-table`` for a table of a study, whose files lie in ``folder``."""
    found = [str(folder / entry["records"])]
    for key, value in entry.items():
        if key == "where":
            for setting, values in value.items():
                found += ["--where", f"{setting}={','.join(choices(values))}"]
        elif key in ("output", "plot"):
            found += [f"--{key}", str(folder / value)]
        elif key != "records":
            found += [f"--{key}"] if value is True else [f"--{key}", ",".join(choices(value))]
    return found


def tabulate(study: Study, folder: Path) -> list[str]:
    """Make the tables and plots; returns those that could not be made (mint-table has said why)."""
    made = {entry["output"]: table.main(table_arguments(folder, entry)) for entry in study.tables}
    return [f"table {name} could not be made" for name, code in made.items() if code]


def say(words: str) -> None:
    """One line on stderr."""
    print(f"mint-study: {words}", file=sys.stderr, flush=True)


def options(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    about = {p.stem: p.read_text(encoding="utf-8").splitlines()[0] for p in STUDIES.glob("*.yaml")}
    lines = [f"  {name:<21}{line.removeprefix('# ')}" for name, line in sorted(about.items())]
    parser = argparse.ArgumentParser(
        prog="mint-study",
        description="Run what is not done yet of a study, then make its tables and plots.",
        epilog="\n".join(["studies:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("study", metavar="NAME", help="one of the studies below, or a YAML file")
    add("settings", nargs="*", metavar="KEY=VALUE", help="instead of the study's; a,b: both")
    add("--list", action="store_true", help="print every run, its state and command; run nothing")
    add("--only", action="append", metavar="PART", help="runs whose folder has it; * is anything")
    add("--tables", action="store_true", help="make the tables only")
    add("--replace", action="store_true", help="make records of other settings anew")
    add("--folder", type=Path, metavar="DIR", help="write there instead of the study's folder")
    return parser.parse_intermixed_args(argv)


def chosen(found: list[Cell], folder: Path, parts: list[str] | None) -> list[Cell]:
    """The cells whose folder has one of the parts in its name; all without any."""
    names = {cell: f"/{cell.folder.relative_to(folder)}/" for cell in found}
    kept = [c for c in found if not parts or any(fnmatchcase(names[c], f"*{p}*") for p in parts)]
    if not kept:
        raise SettingError("--only", "must be part of a run's folder (see --list)", parts)
    return kept


def carry_out(asked: argparse.Namespace) -> list[str]:
    """What a command line asks for; returns what failed."""
    study = read(asked.study)
    folder = asked.folder or Path(study.folder)
    if asked.tables:
        return tabulate(study, folder)
    found = chosen(cells(study, folder, typed(asked.settings)), folder, asked.only)
    if asked.list:
        for cell in found:
            name, command = cell.folder.relative_to(folder), " ".join(cell.overrides)
            print(f"{name} {state(cell)}: mint-run {command}", flush=True)
        return []
    return run(found, folder, asked.replace) + tabulate(study, folder)


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``mint-study``: 0, or 1 if anything failed, a sentence for each on stderr."""
    asked = options(argv)
    try:
        failed = carry_out(asked)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from there")
        return 130
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        told = message(error, asked.settings)
        if told is None:
            raise
        failed = [told]
    for words in failed:
        say(words)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
