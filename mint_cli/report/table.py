"""Records to tables: one row per configuration, averaged over seeds, the columns those that tell rows apart."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mint_cli.report.text import FORMATS, Table, label, unit
from mint_cli.report.record import NAMES, SHARES, Fault, Row, Stat, average, gather, published, text

FIRST = (*NAMES, "pruner.sparsity", "pruner.groups", "pruner.samples_per_class")  # preferred among settings that vary together
METRICS = (*SHARES, "accuracy.dense", "accuracy.pruned", "accuracy.retrained", "drop", "agreement", "seconds")
LITERATURE = "Published rows are as their sources print them, mostly one run and often the best epoch on the test set."


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


def tabulate(rows: list[Row], literature: list[Row], stopped: list[str], chosen: list[str] | None) -> Table:
    """Choose columns: those asked for, else the settings that tell rows apart and the usual numbers."""
    apart = telling(rows)
    if literature and "pruner" not in apart:  # the methods of published rows stand there
        apart = sorted([*apart, "pruner"], key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST))
    present = {key for row in rows for key in row.metrics}
    columns = chosen or apart + [key for key in METRICS if key in present or key != "agreement"]
    settings = [key for key in columns if any(key in row.settings for row in rows)]
    notes = [
        *remarks(rows, columns),
        *([LITERATURE] if literature else []),
        *(f"Unfinished, without a record of its own: {run}." for run in stopped),
    ]
    return Table(settings, [key for key in columns if key not in settings], rows, literature, notes)


def remarks(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """What a reader must know of settings without a column: the chief ones all rows share, and those that differ nevertheless."""
    shared = [key for key in FIRST if key not in columns and len({row.settings.get(key) for row in rows}) == 1]
    same = [f"{key} {rows[0].settings[key]}" for key in shared if key in rows[0].settings]
    also = silent(rows, columns)
    notes = [f"The same in every measured row: {', '.join(same)}."] if same else []
    return notes + ([f"Without a column, but not the same in every row: {'; '.join(also)}."] if also else [])


def silent(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Settings that differ though no column shows them: numbers that follow from those shown, and whatever else tells rows apart.

    Copies of another are left out.
    """
    apart = telling(rows)
    keys = sorted({key for row in rows for key in row.settings} - {*columns}, key=lambda key: (key not in FIRST, key.count("."), key))
    known = {tuple(row.settings.get(key) for row in rows) for key in columns}
    found = []
    for key in keys:
        values = tuple(row.settings.get(key) for row in rows)
        several = list(dict.fromkeys(value for value in values if value is not None))
        numeric = any(isinstance(number(value), float) for value in several)
        if values not in known and len(several) > 1 and (numeric or key in apart):
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
        words = [row.settings[key] if key in NAMES else f"{short(key, keys)} {row.settings[key]}" for key in keys if key in row.settings]
        across, across_sd = scaled(x, row.metrics[x]) if x in row.metrics else (number(row.settings[x]), 0.0)
        up, up_sd = scaled(y, row.metrics[y])
        lines.setdefault(", ".join(words) or y, []).append((across, up, across_sd, up_sd))
    return lines


def short(key: str, keys: Sequence[str]) -> str:
    """The shortest end of a dotted name that no other of ``keys`` has."""
    ends = [key.split(".", i)[-1] for i in range(key.count("."), -1, -1)]
    return next((end for end in ends if sum(f".{other}".endswith(f".{end}") for other in keys) == 1), key)


def scaled(key: str, value: Stat) -> tuple[float, float]:
    """Mean and sd in the unit that the axis names, 0 for an undefined sd."""
    return value.mean * unit(key)[0], (value.sd or 0.0) * unit(key)[0]


def draw(path: Path, lines: dict[str, list[tuple[Any, float, float, float]]], x: str, y: str) -> None:
    """Write the plot."""
    if not lines:
        raise Fault(f"no row has both '{x}' and '{y}', so there is nothing to draw into {path}")
    from mint_cli.report import plot  # late: matplotlib takes longer than everything else

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


def condition(value: str) -> tuple[str, list[float | str]]:
    """Split KEY=VALUE,… into the key and its values, numbers where they are numbers; a list in brackets is one value."""
    key, equals, words = value.partition("=")
    values = [listed(word) if word.startswith("[") else number(word.strip()) for word in re.findall(r"\[[^\]]*\]|[^,\s][^,]*", words)]
    if not (key and equals and values):
        raise argparse.ArgumentTypeError(f"'{value}' is not KEY=VALUE or KEY=VALUE,VALUE")
    return key, values


def listed(words: str) -> str:
    """A list as a record's settings hold it, from how a user types it: [conv1,conv2] or ["conv1", "conv2"]."""
    return text([number(word.strip().strip("'\"")) for word in words[1:-1].split(",") if word.strip()])


def meeting(rows: Iterable[Row], conditions: Iterable[tuple[str, list[float | str]]]) -> list[Row]:
    """Rows whose settings meet all conditions."""
    rows = list(rows)
    settings = {key for row in rows for key in row.settings}
    for key, values in conditions:
        if key not in settings:
            raise Fault(f"--where takes settings, and {key} is a number that was measured")
        there = sorted({row.settings[key] for row in rows if key in row.settings})
        rows = [row for row in rows if key in row.settings and number(row.settings[key]) in values]
        if not rows:
            raise Fault(
                f"no row has {key} {' or '.join(f'{v:g}' if isinstance(v, float) else v for v in values)}; there is {', '.join(there)}"
            )
    return rows


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked as far as argparse can."""
    parser = argparse.ArgumentParser(
        prog="mint-table", description="Make one comparison table of every record.json below the given folders."
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folder to search for records")
    parser.add_argument("--format", choices=FORMATS, default="markdown", help="markdown (default), csv or latex")
    parser.add_argument("--published", action="store_true", help="add the literature's rows for the same data set and model")
    parser.add_argument("--columns", type=names, metavar="KEY,…", help="exactly these settings, then these numbers")
    parser.add_argument(
        "--where",
        type=condition,
        action="append",
        default=[],
        metavar="KEY=VALUE,…",
        help="only rows with one of these values; may be repeated",
    )
    parser.add_argument("--sort", type=names, default=[], metavar="KEY,…", help="order rows by these columns, lowest first")
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
    wanted = [key for key, _ in options.where]
    check([*(options.columns or ()), *options.sort, *wanted, *filter(None, [options.x]), *([options.y] if options.plot else [])], rows)
    rows = meeting(rows, options.where)
    plain = ordered(rows, telling(rows))
    rows = ordered(plain, options.sort, options.reverse) if options.sort else plain
    pairs = {(row.settings.get("dataset"), row.settings.get("model")) for row in rows}
    literature = ordered(published(pairs) if options.published else [], options.sort, options.reverse)
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
