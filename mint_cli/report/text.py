"""Layout: a table as Markdown, CSV or LaTeX."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from mint_cli.report.record import SHARES, Row, Stat

ABSENT = "–"


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
