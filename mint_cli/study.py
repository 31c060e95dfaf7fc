"""``mint-study``: the runs of a study that are not done yet, then its tables and plots."""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mint_cli import plain_yaml
from mint_cli.commandline import CONF, arguments, message
from mint_cli.errors import DataError, SettingError, owned
from mint_cli.report import table
from mint_cli.signatures import check_types, nearest

PLACES = ("data", "store", "device", "checkpoint")  # where a run lies; a checkpoint goes by content
STUDIES = CONF / "study"


@dataclass(frozen=True)
class Study:
    """Sweeps, the folder of their records, and the tables made of them.

    ``settings`` hold for every sweep, whose own come after; a list is swept, anything else is written
    as on the command line.  A sweep's records go ``into`` a folder below ``folder``, each into one of
    its own, named by the values of the settings in ``name``.  ``needs`` are settings that only the
    user knows, and what they should be.
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

    @property
    def record(self) -> Path:
        return self.folder / "record.json"


def path_of(name: str) -> Path:
    """The file of a study: one of the package's, or any YAML file."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else STUDIES / f"{name}.yaml"
    if not path.is_file():
        hint = nearest(name, (file.stem for file in sorted(STUDIES.glob("*.yaml"))))
        raise SettingError("study", "must be the name of a study or a YAML file", name, hint)
    return path


def read(path: Path) -> Study:
    """The study in a file."""
    content, wanted = content_of(path), Study.__annotations__
    for name in content:
        if name not in wanted:
            raise SettingError(f"{path}: {name}", "is no part of a study", hint=nearest(name, wanted))
    for name in wanted:
        if name not in content:
            raise SettingError(f"{path}: {name}", "is missing")
    with owned(f"{path}: study"):
        check_types(Study, content)
    return Study(**content)


def content_of(path: Path) -> dict[str, Any]:
    """What a file says; ``like`` names a study whose parts hold where the file has none of its own.

    Settings hold one by one.
    """
    plain_yaml.check(path)
    own = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    base = content_of(path_of(own.pop("like"))) if "like" in own else {}
    settings = {**(base.get("settings") or {}), **(own.get("settings") or {})}
    return base | own | {"settings": settings}


def choices(value: Any) -> list[str]:
    """The values that a setting takes in turn, as typed: those of a list, or the only one."""
    given = value if isinstance(value, list) else [value]
    return [one if isinstance(one, str) else json.dumps(one) for one in given]


def typed(arguments: list[str]) -> dict[str, list[str]]:
    """Settings ``key=value`` or ``key=value,value``; commas in brackets separate nothing."""
    found = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not (key and equals):
            raise SettingError(argument, "sets nothing", hint="a setting is written name=value")
        depth, found[key] = 0, [""]
        for character in value:
            depth += (character in "([{") - (character in ")]}")
            if character == "," and not depth:
                found[key].append("")
            else:
                found[key][-1] += character
    return found


def cells(study: Study, folder: Path, given: dict[str, list[str]]) -> list[Cell]:
    """Every combination of every sweep, the last setting varying fastest.

    Settings that are ``given`` replace the study's.
    """
    for key, what in study.needs.items():
        if key not in given:
            raise SettingError(key, f"is needed by this study: {what}")
    found = [cell for sweep in study.sweeps for cell in swept(study, folder, sweep, given)]
    folders = [cell.folder for cell in found]
    for one in folders:
        if folders.count(one) > 1:
            raise DataError(f"several runs of the study would write into {one}")
    return found


def swept(
    study: Study, folder: Path, sweep: dict[str, Any], given: dict[str, list[str]]
) -> Iterator[Cell]:
    """The cells of one sweep."""
    merged = study.settings | sweep | given
    own = {key: choices(value) for key, value in merged.items() if key != "into"}
    for values in product(*own.values()):
        chosen = dict(zip(own, values, strict=True))
        name = "_".join(chosen[key] for key in study.name)
        overrides = tuple(f"{key}={value}" for key, value in chosen.items())
        yield Cell(folder / sweep["into"] / name, overrides)


def config_of(cell: Cell) -> dict[str, Any]:
    """What ``mint-run`` makes of a cell's overrides; what it leaves to the machine is not settled."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=arguments(list(cell.overrides))[0])
    return OmegaConf.to_container(cfg, resolve=True)


def unlike(record: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """Settings of a record that are not those of a configuration.

    Whatever ``auto``, or threads that are null, became on a machine fits.
    """
    made, wanted = dict(leaves(record["config"])), dict(leaves(config))
    own = {key for key in made | wanted if made.get(key, "") != wanted.get(key, "")}
    own = {key for key in own if wanted.get(key) != "auto" and key not in (*PLACES, "threads")}
    if wanted["threads"] not in (None, made.get("threads")):
        own.add("threads")
    start = wanted["checkpoint"]
    if record["checkpoint"] != (None if start is None else digest(start)):
        own.add("checkpoint")
    return sorted(own)


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings that are no mappings themselves, by their paths."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@cache
def digest(path: str) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def state(cell: Cell) -> str:
    """``done``, ``to do``, or what is wrong with the record that is there."""
    if not cell.record.exists():
        return "to do"
    try:
        own = unlike(json.loads(cell.record.read_text(encoding="utf-8")), config_of(cell))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "has a record that cannot be read"
    return f"has a record of other settings ({', '.join(own[:5])})" if own else "done"


def mint_run(cell: Cell) -> int:
    """Exit code of ``mint-run`` in a process of its own: whatever happens to it, others go on."""
    where = f"hydra.run.dir='{cell.folder}'"
    command = [sys.executable, "-m", "mint_cli.main", *cell.overrides, where]
    return subprocess.run(command).returncode


def run(
    todo: list[Cell], base: Path, replace: bool, job: Callable[[Cell], int] = mint_run
) -> list[str]:
    """Run the cells that are not done, one after another; returns those that failed, and why."""
    failed = []
    for number, cell in enumerate(todo, 1):
        name, found = cell.folder.relative_to(base), state(cell)
        if found == "done":
            continue
        say(f"[{number}/{len(todo)}] {name}")
        if found != "to do" and not replace:
            failed.append(f"{name} {found}; --replace makes it anew")
        elif code := job(cell):
            failed.append(f"{name} ended with exit code {code}")
    return failed


def table_arguments(folder: Path, entry: dict[str, Any]) -> list[str]:
    """The command line of ``mint-table`` for a table of a study; its files lie in ``folder``."""
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
    """Make the tables and plots; returns those that could not be made."""
    failed = []
    for entry in study.tables:
        if table.main(table_arguments(folder, entry)):
            failed.append(f"table {entry['output']} could not be made")
    return failed


def say(words: str) -> None:
    """One line on stderr."""
    print(f"mint-study: {words}", file=sys.stderr, flush=True)


def listed() -> str:
    """Every study of the package and what it is about."""
    lines = []
    for path in sorted(STUDIES.glob("*.yaml")):
        about = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("#").strip()
        lines.append(f"  {path.stem:<20} {about}")
    return "\n".join(lines)


def options(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="mint-study",
        description="Run what is not done yet of a study, then make its tables and plots.",
        epilog=f"studies:\n{listed()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("study", metavar="NAME", help="one of the studies below, or a YAML file")
    add("settings", nargs="*", metavar="KEY=VALUE", help="instead of the study's; a,b: both in turn")
    add("--list", action="store_true", help="print every run, its state and command; run nothing")
    add("--only", action="append", metavar="PATTERN", help="runs whose folder has this in it; * is any")
    add("--tables", action="store_true", help="make the tables only")
    add("--replace", action="store_true", help="make records of other settings anew")
    add("--folder", type=Path, metavar="DIR", help="write there instead of into the study's folder")
    return parser.parse_args(argv)


def carry_out(chosen: argparse.Namespace) -> list[str]:
    """What a command line asks for; returns what failed."""
    study = read(path_of(chosen.study))
    folder = chosen.folder or Path(study.folder)
    given = typed(chosen.settings)
    if chosen.tables:
        return tabulate(study, folder)
    found = cells(study, folder, given)
    if chosen.only:
        names = {cell: f"/{cell.folder.relative_to(folder)}/" for cell in found}
        patterns = [f"*{pattern}*" for pattern in chosen.only]
        found = [cell for cell in found if any(fnmatchcase(names[cell], p) for p in patterns)]
        if not found:
            bound = "must be part of a run's folder (see --list)"
            raise SettingError("--only", bound, chosen.only[0])
    if chosen.list:
        for cell in found:
            name, command = cell.folder.relative_to(folder), " ".join(cell.overrides)
            print(f"{name} {state(cell)}: mint-run {command}")
        return []
    return run(found, folder, chosen.replace) + tabulate(study, folder)


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``mint-study``: 0, or 1 if anything failed, a sentence for each on stderr."""
    chosen = options(argv)
    try:
        failed = carry_out(chosen)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from there")
        return 130
    except Exception as error:
        told = message(error, chosen.settings)
        if told is None:
            raise
        failed = [told]
    for words in failed:
        say(words)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
