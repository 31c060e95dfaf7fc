"""``mint-table``: records to tables and plots, one row per configuration, averaged over seeds."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mint_cli.errors import DataError, SettingError, sentence
from mint_cli.report.columns import chosen, listed, named, remarks, telling
from mint_cli.report.record import SHARES, gather, text
from mint_cli.report.rows import Row, Stat, average, by_round, number, published
from mint_cli.report.text import FORMATS, Table, label, one_line, take_any_text, unit

LITERATURE = (
    "Published rows are as their sources print them, mostly one run and often the best epoch on "
    "the test set."
)
TESTED = ("accuracy.retrained", "accuracy.pruned", "accuracy.dense")  # what predictions are kept of
DIFFERENCES = ("images", "difference", "difference.low", "difference.high", "p")
PAIRED = (
    "difference is {} of a row less that of the best row of its data set, model, checkpoint and "
    "sparsity, on the same test images and with the same seeds (their number in brackets); from "
    "low to high it has 95 % over test images, not over other seeds.",
    "p is that of McNemar's exact test; with several seeds an image counts by the seeds it was won "
    "in. Separated are rows with p of at most 5 % after Holm's correction.",
)


def tabulate(
    rows: list[Row], literature: list[Row], stopped: list[str], asked: list[str] | None
) -> Table:
    """Choose columns: those asked for, else what tells rows apart and the usual numbers."""
    columns = asked or chosen(rows, literature)
    settings = [key for key in columns if any(key in row.settings for row in rows)]
    metrics = [key for key in columns if key not in settings]
    notes = [
        *remarks(rows, columns),
        *separated(rows, metrics),
        *([LITERATURE] if literature else []),
        *(f"Unfinished, without a record of its own: {run}." for run in stopped),
    ]
    return Table(settings, metrics, rows, literature, notes)


def separated(rows: Sequence[Row], metrics: Sequence[str]) -> list[str]:
    """Which rows the test images do not separate from the best, where predictions tell."""
    rows = [row for row in rows if "round" not in row.settings]  # predictions are of the last one
    metric = next((key for key in TESTED if key in metrics), None)
    if metric is None or sum(bool(one.correct) for row in rows for one in row.records) < 2:
        return []
    from mint_cli.report.paired import against_best  # late: NumPy takes longer than all else

    apart = telling(rows)
    pairs = against_best(rows, metric, apart)
    close = [named(row, apart) for row in pairs if row.settings["separated"] == "no"]
    if not pairs:
        return []
    best = "the best of the same data set, model, checkpoint and sparsity"
    said = f"no difference to {best} can be seen of: {listed(close)}"
    none = f"all rows but {best} are separated from it"
    return [f"On the same test images (--paired {metric}) {said if close else none}."]


def paired(rows: list[Row], metric: str) -> Table:
    """The table of paired tests."""
    from mint_cli.report.paired import against_best

    apart = telling(rows)
    pairs = against_best(rows, metric, apart)
    if not pairs:
        raise DataError(
            f"no two rows of one data set, model, checkpoint and sparsity have {metric} with "
            "predictions of equal seeds"
        )
    columns = [key for key in apart if any(key in row.settings for row in pairs)]
    notes = [words.format(metric) for words in PAIRED]
    return Table([*columns, "compared with", "separated"], [*DIFFERENCES], pairs, [], notes)


def by_rounds(rows: list[Row]) -> list[Row]:
    """The rounds of the rows that have several."""
    found = by_round(rows)
    if not found:
        raise DataError("no record here has several rounds")
    return found


def check(option: str, keys: Iterable[str], rows: Sequence[Row]) -> None:
    """Every name must be a setting or a number of some row."""
    known = {key for row in rows for key in (*row.settings, *row.metrics)}
    for key in keys:
        if key not in known:
            import difflib  # only here: it costs more than the rest of a start

            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'?" if near else ""
            raise SettingError(option, "must name settings or numbers of the records", key, hint)


def ordered(rows: Iterable[Row], keys: Sequence[str], reverse: bool = False) -> list[Row]:
    """Sort stably by ``keys``, numbers before words, rows without the value last either way."""

    def place(row: Row, key: str) -> tuple[bool, float | str]:
        value = row.metrics[key].mean if key in row.metrics else number(row.settings[key])
        return isinstance(value, str), value

    rows = list(rows)
    for key in reversed(keys):
        having = [row for row in rows if key in row.metrics or key in row.settings]
        having.sort(key=lambda row, key=key: place(row, key), reverse=reverse)
        rows = having + [r for r in rows if key not in r.metrics and key not in r.settings]
    return rows


Curves = dict[str, list[tuple[Any, float, float, float]]]


def curves(rows: Iterable[Row], x: str, y: str) -> Curves:
    """Points (x, y, sd of x, sd of y), one line for each combination of the other settings.

    Rows without x or y are left out.
    """
    rows = [row for row in rows if y in row.metrics and (x in row.metrics or x in row.settings)]
    # a sparsity that was reached follows from the one asked for and the round, which therefore
    # make no lines of their own
    follows = ("pruner.sparsity", "round") if x in SHARES else ()
    keys = [key for key in telling(rows, [x]) if key not in (x, *follows)]
    lines: Curves = {}
    for row in rows:
        at = scaled(x, row.metrics[x]) if x in row.metrics else (number(row.settings[x]), 0.0)
        up = scaled(y, row.metrics[y])
        own = [key for key in keys if key in row.settings]
        name = named(row, keys) if own else y
        lines.setdefault(name, []).append((at[0], up[0], at[1], up[1]))
    return lines


def scaled(key: str, value: Stat) -> tuple[float, float]:
    """Mean and sd in the unit that the axis names, 0 for an undefined sd."""
    return value.mean * unit(key)[0], (value.sd or 0.0) * unit(key)[0]


def draw(path: Path, lines: Curves, x: str, y: str) -> None:
    """Write the plot."""
    if not lines:
        raise DataError(f"no row has both '{x}' and '{y}': there is nothing to draw into {path}")
    from mint_cli.report import plot  # late: Matplotlib takes longer than everything else

    above = f"{label(y)}, mean ± sd over seeds"
    aside(path, lambda target: plot.draw(target, lines, label(x), above))


def aside(path: Path, write: Callable[[Path], Any]) -> None:
    """Write beside ``path``, then rename into place."""
    part = path.parent / f".{path.name}.{os.getpid()}"
    try:
        write(part)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(f"{path} cannot be written: {error.strerror}") from error


def names(value: str) -> list[str]:
    """Split a comma-separated list of column names."""
    return [name.strip() for name in value.split(",") if name.strip()]


def condition(value: str) -> tuple[str, list[float | str]]:
    """Split KEY=VALUE,… into the key and its values; a list in brackets is one value."""
    key, equals, words = value.partition("=")
    found = re.findall(r"\[[^\]]*\]|[^,\s][^,]*", words)
    values = [bracketed(word) if word.startswith("[") else number(word.strip()) for word in found]
    if not (key and equals and values):
        raise argparse.ArgumentTypeError(f"'{value}' is not KEY=VALUE or KEY=VALUE,VALUE")
    return key, values


def bracketed(words: str) -> str:
    """A list as settings hold it, from how a user types it: [conv1,conv2] or ["conv1", …]."""
    found = [word.strip().strip("'\"") for word in words[1:-1].split(",") if word.strip()]
    return text([number(word) for word in found])


def meeting(rows: list[Row], conditions: Iterable[tuple[str, list[float | str]]]) -> list[Row]:
    """Rows whose settings meet all conditions."""
    settings = {key for row in rows for key in row.settings}
    for key, values in conditions:
        if key not in settings:
            raise SettingError("--where", f"takes settings, and {key} is a number measured")
        there = sorted({row.settings[key] for row in rows if key in row.settings})
        rows = [r for r in rows if key in r.settings and number(r.settings[key]) in values]
        if not rows:
            asked = " or ".join(f"{v:g}" if isinstance(v, float) else v for v in values)
            raise DataError(f"no row has {key} {asked}; there is {', '.join(there)}")
    return rows


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked as far as argparse can."""
    about = "Make one comparison table of every record.json below the given folders."
    parser = argparse.ArgumentParser(prog="mint-table", description=about)
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="DIR", help="folder to search for records")
    add("--format", choices=FORMATS, default="markdown", help="markdown (default), csv or latex")
    add(
        "--published",
        action="store_true",
        help="add the literature's rows for the same data set and model",
    )
    add(
        "--columns",
        type=names,
        metavar="KEY,…",
        help="exactly these settings, then these numbers",
    )
    add(
        "--where",
        type=condition,
        action="append",
        default=[],
        metavar="KEY=VALUE,…",
        help="only rows with one of these values; may be repeated",
    )
    add(
        "--sort",
        type=names,
        default=[],
        metavar="KEY,…",
        help="order rows by these columns, lowest first",
    )
    add("--reverse", action="store_true", help="with --sort: highest first")
    add(
        "--paired",
        nargs="?",
        const=TESTED[0],
        choices=TESTED,
        help="instead: what test images say of every row and the best one of the same data set, "
        f"model, checkpoint and sparsity (default: {TESTED[0]})",
    )
    add("--rounds", action="store_true", help="instead: a row for each of several rounds")
    add("--output", type=Path, metavar="FILE", help="write the table here instead of printing it")
    add(
        "--plot",
        type=Path,
        metavar="FILE",
        help="also draw --y against --x into this PNG, a line for each other setting",
    )
    add("--x", metavar="KEY", help="setting or number on the horizontal axis")
    add(
        "--y",
        metavar="KEY",
        default=TESTED[0],
        help="number on the vertical axis (default: %(default)s)",
    )
    options = parser.parse_args(argv)
    if options.plot and not options.x:
        parser.error("--plot needs --x KEY")
    others = ("columns", "published", "rounds", "plot")
    beside = [f"--{name}" for name in others if getattr(options, name)]
    if options.paired and beside:
        parser.error(f"--paired makes a table of its own, without {beside[0]}")
    return options


def report(options: argparse.Namespace) -> None:
    """Gather, average, choose columns, write."""
    records, stopped, warnings = gather(options.folders)
    if not records:
        where = ", ".join(map(str, options.folders))
        runs = f" (unfinished: {'; '.join(stopped)})" if stopped else ""
        raise DataError("; ".join(warnings) or f"there is no record.json below {where}{runs}")
    rows = average(records)
    rows = by_rounds(rows) if options.rounds else rows
    check("--where", [key for key, _ in options.where], rows)
    check("--columns", options.columns or (), rows)
    check("--sort", options.sort, rows)
    rows = meeting(rows, options.where)
    plain = ordered(rows, telling(rows))
    rows = ordered(plain, options.sort, options.reverse) if options.sort else plain
    if options.paired:
        table = paired(rows, options.paired)
    else:
        table = compared(rows, stopped, options)
    if options.plot:
        check("--x", [options.x], rows)
        check("--y", [options.y], rows)
        draw(options.plot, curves(plain, options.x, options.y), options.x, options.y)
    content = FORMATS[options.format](table)
    if options.output:
        write = {"encoding": "utf-8", "errors": "mint-table"}
        aside(options.output, lambda path: path.write_text(content, **write))
    else:
        put(content)
    for warning in [*warnings, *(table.notes if options.format == "csv" else [])]:
        say(warning)


def compared(rows: list[Row], stopped: list[str], options: argparse.Namespace) -> Table:
    """The table of all rows, published ones below where asked for."""
    pairs = {(row.settings.get("dataset"), row.settings.get("model")) for row in rows}
    found = published(pairs) if options.published else []
    literature = ordered(found, options.sort, options.reverse)
    table = tabulate(rows, literature, stopped, options.columns)
    if options.published and not literature:
        missing = ", ".join(f"{model} on {dataset}" for dataset, model in sorted(pairs, key=str))
        table.notes.append(f"No published rows for {missing}.")
    return table


def put(content: str) -> None:
    """The table on stdout."""
    try:
        print(content, end="", flush=True)
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise DataError(f"the table cannot be written: {error.strerror}") from error


def say(words: str) -> None:
    """One line on stderr."""
    print(f"mint-table: {one_line(words)}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``mint-table``: 0, or 1 after one sentence on stderr."""
    take_any_text(sys.stdout, sys.stderr)
    options = arguments(argv)
    try:
        report(options)
    except Exception as error:
        words = sentence(error)
        if words is None:
            raise
        say(words)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
