"""Records to tables: every ``record.json`` below some folders, one row per configuration, averaged over seeds."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

SCHEMA = 1
NAMES = ("dataset", "model", "pruner", "schedule")  # the four groups a user chooses from
FIRST = (*NAMES, "pruner.sparsity", "pruner.groups", "pruner.samples_per_class")  # preferred among settings that vary together
PLACES = ("data", "store", "output", "hydra", "threads")  # where a run lies and how many threads it took is no setting to compare
SHARES = ("sparsity.total", "sparsity.of_all_weights")
METRICS = (*SHARES, "accuracy.dense", "accuracy.pruned", "accuracy.retrained", "drop", "agreement", "seconds")
ABSENT = "–"
LITERATURE = "Published rows are as their sources print them, mostly one run and often the best epoch on the test set."


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


# ---------------------------------------------------------------- reading


def text(value: Any) -> str:
    """Write a setting as a user would type it: ``1.0`` and ``1`` are the same."""
    if isinstance(value, str):
        return value
    return str(int(value)) if isinstance(value, float) and value.is_integer() else json.dumps(value, sort_keys=True, ensure_ascii=False)


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
    """One phrase on a run without a record, from its ``status.json``; empty when it neither failed nor stopped half-way."""
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
    """Find the records below ``folders``, each configuration and seed once (the latest); also phrases on unfinished runs and warnings."""
    latest: dict[Any, Record] = {}
    stopped, warnings = [], []
    for folder in folders:
        if not folder.is_dir():
            raise Fault(f"there is no folder {folder}")
        for root, _, files in sorted(os.walk(folder)):
            if "record.json" not in files:
                stopped += filter(None, [unfinished(Path(root, "status.json"))] if "status.json" in files else [])
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


# ---------------------------------------------------------------- rows and columns


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


def partition(values: Iterable[Any]) -> tuple[int, ...]:
    """Which positions hold equal values, whatever they are: equal for two settings that always vary together."""
    first: dict[Any, int] = {}
    return tuple(first.setdefault(value, len(first)) for value in values)


def telling(rows: Sequence[Row], lead: Sequence[str] = ()) -> list[str]:
    """The settings that tell rows apart, those in ``lead`` and ``FIRST`` preferred, none that follows from the ones before it."""
    order = [*lead, *FIRST]
    keys = {key for row in rows for key in row.settings}
    ranked = sorted(
        keys, key=lambda key: (order.index(key) if key in order else len(order), key == "device", key.count("."), len(key), key)
    )
    shown, seen, apart = [], {(0,) * len(rows)}, (0,) * len(rows)
    for key in ranked:
        values = [row.settings.get(key) for row in rows]
        parts = partition(values)
        finer = partition(zip(apart, parts, strict=True))
        # a setting such as the group size stays when it follows from the pruner but differs between those that have one
        if parts not in seen and (finer != apart or key in order and len({*values} - {None}) > 1):
            shown.append(key)
            apart = finer
            seen.add(parts)
    return shown


def check(keys: Iterable[str], rows: Sequence[Row]) -> None:
    """Every name must be a setting or a number of some row."""
    known = {key for row in rows for key in (*row.settings, *row.metrics)}
    for key in keys:
        if key not in known:
            import difflib  # only here: it costs more than the rest of a start

            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            raise Fault(f"no record has a setting or number named '{key}'" + (f"; did you mean '{near[0]}'?" if near else ""))


def number(value: str) -> float | str:
    """A setting as a number where it is one."""
    try:
        return float(value)
    except ValueError:
        return value


def ordered(rows: Iterable[Row], keys: Sequence[str], reverse: bool = False) -> list[Row]:
    """Sort stably by ``keys``, numbers before words, rows without the value last in either direction."""

    def place(row: Row, key: str) -> tuple[bool, float | str]:
        value = row.metrics[key].mean if key in row.metrics else number(row.settings[key])
        return isinstance(value, str), value

    rows = list(rows)
    for key in reversed(keys):
        having = [row for row in rows if key in row.metrics or key in row.settings]
        having.sort(key=lambda row, key=key: place(row, key), reverse=reverse)
        rows = having + [row for row in rows if key not in row.metrics and key not in row.settings]
    return rows


# ---------------------------------------------------------------- writing


@dataclass(frozen=True)
class Table:
    """Rows with the columns chosen for them, and sentences to stand below."""

    settings: list[str]
    metrics: list[str]
    measured: list[Row]
    published: list[Row]
    notes: list[str]


def unit(key: str) -> tuple[float, int, str]:
    """Factor, decimals and unit in which a number is shown."""
    head = key.partition(".")[0]
    if head in ("sparsity", "accuracy", "validation_accuracy"):
        return 100, 2, "%"
    return {"drop": (100, 2, "points"), "seconds": (1, 1, "s"), "weights": (1, 0, "")}.get(head, (1, 3, ""))


def label(key: str) -> str:
    """A column's heading: its name and unit."""
    return f"{key} ({unit(key)[2]})" if unit(key)[2] else key


def shown(key: str, value: Stat | None) -> str:
    """``mean ± sd (n)`` in the column's unit, a dash for none; n is left out where it is unknown, sd where it is undefined."""
    if value is None:
        return ABSENT
    factor, digits, _ = unit(key)
    parts = [f"{value.mean * factor:.{digits}f}"]
    parts += [f"± {value.sd * factor:.{digits}f}"] if value.sd is not None else []
    return " ".join([*parts, f"({value.n})"] if value.n else parts)


def marks(table: Table) -> tuple[dict[tuple[str, str], str], list[str]]:
    """Letters for (share, denominator) where one column has several denominators, and the notes that name every denominator."""
    letters: dict[tuple[str, str], str] = {}
    notes = []
    for share in (key for key in SHARES if key in table.metrics):
        found = dict.fromkeys(row.denominators[share] for row in table.measured + table.published if share in row.metrics)
        if len(found) == 1:
            notes.append(f"{share} is the share removed of {next(iter(found))}.")
        for name in found if len(found) > 1 else ():
            letters[share, name] = f" [{chr(ord('a') + len(letters))}]"
            notes.append(f"{letters[share, name].strip()} {share} is the share removed of {name}.")
    return letters, notes


def cells(table: Table) -> tuple[list[str], list[list[str]], list[list[str]], list[str]]:
    """Heading, measured lines, published lines and notes as plain text."""
    letters, notes = marks(table)

    def line(row: Row) -> list[str]:
        mark = {key: letters.get((key, row.denominators.get(key, "")), "") if key in row.metrics else "" for key in table.metrics}
        numbers = [shown(key, row.metrics.get(key)) + mark[key] for key in table.metrics]
        return [row.settings.get(key, ABSENT) for key in table.settings] + numbers + ([row.source or ABSENT] if table.published else [])

    heading = [*table.settings, *map(label, table.metrics), *(["source"] if table.published else [])]
    return heading, [line(row) for row in table.measured], [line(row) for row in table.published], notes + table.notes


def markdown(table: Table) -> str:
    """A GitHub table, published rows below a line of their own, notes as a list."""
    heading, measured, literature, notes = cells(table)
    escape = {ord("|"): "\\|", ord("\n"): " "}
    rule = ["---"] * len(table.settings) + ["---:"] * len(table.metrics) + ["---"] * bool(literature)
    between = [["**published, not measured here**"] + [""] * (len(heading) - 1)] if literature else []
    lines = [heading, rule, *measured, *between, *literature]
    body = ["| " + " | ".join(cell.translate(escape) for cell in line) + " |" for line in lines]
    return "\n".join([*body, "", *(f"- {note}" for note in notes), ""])


def latex(table: Table) -> str:
    """A ``tabular`` without packages, special characters escaped, published rows below a rule, notes as a paragraph."""
    heading, measured, literature, notes = cells(table)
    special = {char: f"\\{char}" for char in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {"[": "{[}", "*": "{*}"}  # after \\ they would be read as its argument
    special |= {"±": r"$\pm$", "–": "--", "−": "$-$", "×": r"$\times$", "…": r"\dots{}", "<": "$<$", ">": "$>$", "\n": " "}
    escape = str.maketrans(special)
    line = "{} \\\\".format  # a row's closing \\ must not be escaped
    body = [[line(" & ".join(cell.translate(escape) for cell in row)) for row in block] for block in ([heading], measured, literature)]
    between = [r"\hline", line(rf"\multicolumn{{{len(heading)}}}{{l}}{{published, not measured here}}")] if literature else []
    columns = "l" * len(table.settings) + "r" * len(table.metrics) + "l" * bool(literature)
    start = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", *body[0], r"\hline"]
    end = [r"\hline", r"\end{tabular}", "", *(rf"\par {{\footnotesize {note.translate(escape)}}}" for note in notes), ""]
    return "\n".join([*start, *body[1], *between, *body[2], *end])


def comma(table: Table) -> str:
    """CSV with raw fractions in full precision: mean, sd and n of every number, then denominators and source; no notes."""
    shares = [share for share in SHARES if share in table.metrics]
    heading = (
        table.settings + [f"{key}.{part}" for key in table.metrics for part in Stat._fields] + [f"{key}.of" for key in shares] + ["source"]
    )
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heading)
    for row in table.measured + table.published:
        numbers = [part for key in table.metrics for part in row.metrics.get(key, (None,) * 3)]
        of = [row.denominators.get(key, "") if key in row.metrics else "" for key in shares]
        writer.writerow([*(row.settings.get(key, "") for key in table.settings), *numbers, *of, row.source])
    return out.getvalue()


FORMATS = {"markdown": markdown, "csv": comma, "latex": latex}


# ---------------------------------------------------------------- the command


def tabulate(rows: list[Row], literature: list[Row], stopped: list[str], chosen: list[str] | None) -> Table:
    """Choose columns: those asked for, else the settings that tell rows apart and the usual numbers."""
    apart = telling(rows)
    if literature and "pruner" not in apart:  # the methods of published rows stand there
        apart = sorted([*apart, "pruner"], key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST))
    present = {key for row in rows for key in row.metrics}
    columns = chosen or apart + [key for key in METRICS if key in present or key != "agreement"]
    settings = [key for key in columns if any(key in row.settings for row in rows)]
    notes = [*remarks(rows, columns), *([LITERATURE] if literature else []), *(f"Unfinished, no record: {run}." for run in stopped)]
    return Table(settings, [key for key in columns if key not in settings], rows, literature, notes)


def remarks(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """What a reader must know of settings without a column: the chief ones all rows share, and those that differ nevertheless."""
    shared = [key for key in FIRST if key not in columns and len({row.settings.get(key) for row in rows}) == 1]
    same = [f"{key} {rows[0].settings[key]}" for key in shared if key in rows[0].settings]
    also = silent(rows, columns)
    notes = [f"The same in every measured row: {', '.join(same)}."] if same else []
    return notes + ([f"Without a column, but not the same in every row: {'; '.join(also)}."] if also else [])


def silent(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Numeric settings that differ though no column shows them, as they follow from those shown; copies of another are left out."""
    keys = sorted({key for row in rows for key in row.settings} - {*columns}, key=lambda key: (key not in FIRST, key.count("."), key))
    known = {tuple(row.settings.get(key) for row in rows) for key in columns}
    found = []
    for key in keys:
        values = tuple(row.settings.get(key) for row in rows)
        several = list(dict.fromkeys(value for value in values if value is not None))
        if values not in known and len(several) > 1 and any(isinstance(number(value), float) for value in several):
            found.append(f"{key} ({', '.join(several)})")
        known.add(values)
    return found[:6] + ([f"and {len(found) - 6} more"] if len(found) > 6 else [])


def curves(rows: Iterable[Row], x: str, y: str) -> dict[str, list[tuple[Any, float, float, float]]]:
    """Points (x, y, sd of x, sd of y) of a plot, one line for each combination of the other settings; rows without x or y are left out."""
    rows = [row for row in rows if y in row.metrics and (x in row.metrics or x in row.settings)]
    # a sparsity that was reached follows from the one that was asked for, so the latter makes no lines of its own
    keys = [key for key in telling(rows, [x]) if key != x and not (x in SHARES and key.endswith(".sparsity"))]
    lines: dict[str, list[tuple[Any, float, float, float]]] = {}
    for row in rows:
        words = [
            row.settings[key] if key in NAMES else f"{key.rpartition('.')[2]} {row.settings[key]}" for key in keys if key in row.settings
        ]
        across, across_sd = scaled(x, row.metrics[x]) if x in row.metrics else (number(row.settings[x]), 0.0)
        up, up_sd = scaled(y, row.metrics[y])
        lines.setdefault(", ".join(words) or y, []).append((across, up, across_sd, up_sd))
    return lines


def scaled(key: str, value: Stat) -> tuple[float, float]:
    """Mean and sd in the unit that the axis names, 0 for an undefined sd."""
    return value.mean * unit(key)[0], (value.sd or 0.0) * unit(key)[0]


def draw(path: Path, lines: dict[str, list[tuple[Any, float, float, float]]], x: str, y: str) -> None:
    """Write the plot."""
    if not lines:
        raise Fault(f"no row has both '{x}' and '{y}', so there is nothing to draw into {path}")
    from mint_cli import plot  # late: matplotlib takes longer than everything else

    aside(path, lambda target: plot.draw(target, lines, label(x), f"{label(y)}, mean ± sd over seeds"))


def aside(path: Path, write: Callable[[Path], Any]) -> None:
    """Write beside ``path``, then rename into place."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(part)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise Fault(f"{path} cannot be written: {error.strerror}") from error


def names(value: str) -> list[str]:
    """Split a comma-separated list of column names."""
    return [name.strip() for name in value.split(",") if name.strip()]


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked as far as argparse can."""
    parser = argparse.ArgumentParser(
        prog="mint-table", description="Make one comparison table of every record.json below the given folders."
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folder to search for records")
    parser.add_argument("--format", choices=FORMATS, default="markdown", help="markdown (default), csv or latex")
    parser.add_argument("--published", action="store_true", help="add the literature's rows for the same data set and model")
    parser.add_argument("--columns", type=names, metavar="KEY,…", help="exactly these settings, then these numbers")
    parser.add_argument("--sort", metavar="KEY", help="order rows by this column, lowest first")
    parser.add_argument("--reverse", action="store_true", help="with --sort: highest first")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table here instead of printing it")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw --y against --x into this PNG, a line for each other setting")
    parser.add_argument("--x", metavar="KEY", help="setting or number on the horizontal axis")
    parser.add_argument("--y", metavar="KEY", default="accuracy.retrained", help="number on the vertical axis (default: %(default)s)")
    options = parser.parse_args(argv)
    if options.plot and not options.x:
        parser.error("--plot needs --x KEY")
    return options


def report(options: argparse.Namespace) -> None:
    """Gather, average, choose columns, write."""
    records, stopped, warnings = gather(options.folders)
    where = ", ".join(map(str, options.folders))
    if not records:
        raise Fault(
            "; ".join(warnings) or f"there is no record.json below {where}" + (f" (unfinished: {'; '.join(stopped)})" if stopped else "")
        )
    rows = average(records)
    check([*(options.columns or ()), *filter(None, [options.sort, options.x]), *([options.y] if options.plot else [])], rows)
    plain = ordered(rows, telling(rows))
    rows = ordered(plain, [options.sort], options.reverse) if options.sort else plain
    pairs = {(row.settings.get("dataset"), row.settings.get("model")) for row in rows}
    literature = ordered(published(pairs) if options.published else [], [options.sort] if options.sort else [], options.reverse)
    table = tabulate(rows, literature, stopped, options.columns)
    if options.published and not literature:
        table.notes.append(f"No published rows for {', '.join(f'{model} on {dataset}' for dataset, model in sorted(pairs, key=str))}.")
    if options.plot:
        draw(options.plot, curves(plain, options.x, options.y), options.x, options.y)
    content = FORMATS[options.format](table)
    if options.output:
        aside(options.output, lambda path: path.write_text(content, encoding="utf-8"))
    else:
        sys.stdout.write(content)
    for warning in [*warnings, *(table.notes if options.format == "csv" else [])]:
        print(f"mint-table: {warning}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``mint-table``: 0, or 1 after one sentence on stderr."""
    try:
        report(arguments(argv))
        sys.stdout.flush()
    except Fault as fault:
        print(f"mint-table: {fault}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
