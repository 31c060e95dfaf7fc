"""Layout: a table as Markdown, CSV or LaTeX, every cell and note on one line."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

from mint_cli.report.record import SHARES
from mint_cli.report.rows import Row, Stat, number

ABSENT = "–"
CONTROL = {code: " " for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}  # and line ends
ASCII = {"±": "+/-", "–": "-", "−": "-", "…": "...", "×": "x", "≤": "<=", "→": "->", "’": "'"}
MARKDOWN = {"\\": "\\\\", "|": "\\|", "&": "&amp;", "<": "&lt;", ">": "&gt;"}
LATEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"[": "{[}", "*": "{*}"},  # after \\ they would be read as its argument
    **{"±": r"$\pm$", "–": "--", "−": "$-$", "×": r"$\times$", "…": r"\dots{}"},
    **{"<": "$<$", ">": "$>$"},
}

COSTS = {  # of a network, in units of a readable size
    "parameters": (1e-6, 3, "millions"),
    "macs": (1e-6, 2, "millions"),
    "bytes": (1e-6, 2, "MB"),
    "activations": (1e-6, 2, "MB"),
    "latency": (1, 1, "ms"),
}


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
    head, _, rest = key.partition(".")
    if head == "cost":
        leaf = {*rest.split(".")} & COSTS.keys()
        return COSTS[leaf.pop()] if leaf else (1, 0, "")
    if head in ("sparsity", "accuracy", "validation_accuracy"):
        return 100, 2, "%"
    return {
        "drop": (100, 2, "points"),
        "difference": (100, 2, "points"),
        "seconds": (1, 1, "s"),
        "weights": (1, 0, ""),
        "images": (1, 0, ""),
        "p": (1, 4, ""),
    }.get(head, (1, 3, ""))


def label(key: str) -> str:
    """A column's heading: its name and unit."""
    return f"{key} ({unit(key)[2]})" if unit(key)[2] else key


def shown(key: str, value: Stat | None) -> str:
    """``mean ± sd (n)`` in the column's unit, without what is not known; a dash for none."""
    if value is None:
        return ABSENT
    factor, digits, _ = unit(key)
    parts = [f"{value.mean * factor:.{digits}f}"]
    parts += [f"± {value.sd * factor:.{digits}f}"] if value.sd is not None else []
    return " ".join([*parts, f"({value.n})"] if value.n else parts)


def one_line(words: str) -> str:
    """Words without line ends and other control characters."""
    return words.translate(CONTROL)


def escaped(words: str, special: dict[str, str]) -> str:
    """Words on one line, special characters replaced."""
    return one_line(words).translate(str.maketrans(special))


def plain(error: UnicodeError) -> tuple[str, int]:
    """What a stream that is not UTF-8 gets for characters that it cannot take."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end].translate(str.maketrans(ASCII))
    return found.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error("mint-table", plain)


def take_any_text(*streams: TextIO) -> None:
    """Let streams write what their encoding cannot take in other words instead of failing."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="mint-table")


def marks(table: Table) -> tuple[dict[tuple[str, str], str], list[str]]:
    """What shares are shares of: notes, and letters where one column has several denominators."""
    letters: dict[tuple[str, str], str] = {}
    notes = []
    rows = table.measured + table.published
    for share in (key for key in SHARES if key in table.metrics):
        found = dict.fromkeys(row.denominators[share] for row in rows if share in row.metrics)
        if len(found) == 1:
            notes.append(f"{share} is the share removed of {next(iter(found))}.")
        for name in found if len(found) > 1 else ():
            letters[share, name] = f" [{chr(ord('a') + len(letters))}]"
            mark = letters[share, name].strip()
            notes.append(f"{mark} {share} is the share removed of {name}.")
    return letters, notes


Lines = list[list[str]]


def cells(table: Table) -> tuple[list[str], Lines, Lines, list[str]]:
    """Heading, measured lines, published lines and notes as plain text."""
    letters, notes = marks(table)

    def cell(row: Row, key: str) -> str:
        mark = letters.get((key, row.denominators.get(key, "")), "") if key in row.metrics else ""
        return shown(key, row.metrics.get(key)) + mark

    def line(row: Row) -> list[str]:
        settings = [row.settings.get(key, ABSENT) for key in table.settings]
        source = [row.source or ABSENT] if table.published else []
        return settings + [cell(row, key) for key in table.metrics] + source

    source = ["source"] if table.published else []
    heading = [*table.settings, *map(label, table.metrics), *source]
    measured, literature = map(line, table.measured), map(line, table.published)
    return heading, list(measured), list(literature), notes + table.notes


def markdown(table: Table) -> str:
    """A GitHub table, published rows below a line of their own, notes as a list."""
    heading, measured, literature, notes = cells(table)

    def line(row: Iterable[str]) -> str:
        return "| " + " | ".join(row) + " |"

    def lines(rows: Lines) -> list[str]:
        return [line(escaped(cell, MARKDOWN) for cell in row) for row in rows]

    numbers = ["---:"] * len(table.metrics)
    rule = ["---"] * len(table.settings) + numbers + ["---"] * bool(literature)
    title = ["**published, not measured here**"] + [""] * (len(heading) - 1)
    body = [*lines([heading]), line(rule), *lines(measured)]
    body += [line(title), *lines(literature)] if literature else []
    return "\n".join([*body, "", *(f"- {escaped(note, MARKDOWN)}" for note in notes), ""])


def latex(table: Table) -> str:
    """A ``tabular`` without packages, published rows below a rule, notes as paragraphs."""
    heading, measured, literature, notes = cells(table)

    def lines(rows: Lines) -> list[str]:
        return [" & ".join(escaped(cell, LATEX) for cell in row) + r" \\" for row in rows]

    title = rf"\multicolumn{{{len(heading)}}}{{l}}{{published, not measured here}} \\"
    between = [r"\hline", title] if literature else []
    columns = "l" * len(table.settings) + "r" * len(table.metrics) + "l" * bool(literature)
    start = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", *lines([heading]), r"\hline"]
    below = [rf"\par {{\footnotesize {escaped(note, LATEX)}}}" for note in notes]
    end = [r"\hline", r"\end{tabular}", "", *below, ""]
    return "\n".join([*start, *lines(measured), *between, *lines(literature), *end])


def inert(words: str) -> str:
    """A text cell of CSV on one line, with an apostrophe where a spreadsheet would compute it."""
    words = one_line(words)
    computed = words.lstrip().startswith(("=", "+", "-", "@")) and isinstance(number(words), str)
    return f"'{words}" if computed else words


def comma(table: Table) -> str:
    """CSV with raw fractions in full precision, then denominators and source; no notes."""
    shares = [share for share in SHARES if share in table.metrics]
    parts = [f"{key}.{part}" for key in table.metrics for part in Stat._fields]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heading = [*table.settings, *parts, *(f"{key}.of" for key in shares), "source"]
    writer.writerow(map(inert, heading))
    for row in table.measured + table.published:
        settings = [row.settings.get(key, "") for key in table.settings]
        numbers = [part for key in table.metrics for part in row.metrics.get(key, (None,) * 3)]
        of = [row.denominators.get(key, "") if key in row.metrics else "" for key in shares]
        words = map(inert, [*of, row.source])
        writer.writerow([*map(inert, settings), *numbers, *words])
    return out.getvalue()


FORMATS = {"markdown": markdown, "csv": comma, "latex": latex}
