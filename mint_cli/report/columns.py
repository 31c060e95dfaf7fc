"""Which settings tell rows apart, and what must be said of those that have no column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mint_cli.report.record import NAMES, SHARES
from mint_cli.report.rows import Row, by_number, number

FIRST = (*NAMES, "pruner.sparsity", "pruner.groups", "pruner.samples_per_class")  # preferred
LAST = ("device", "threads")
ZEROS = "sparsity.zeros"
METRICS = (
    *SHARES,
    ZEROS,
    "accuracy.dense",
    "accuracy.pruned",
    "accuracy.retrained",
    "drop",
    "agreement",
    "seconds",
)
SEVERAL = 6  # most names in one sentence


def partition(values: Iterable[Any]) -> tuple[int, ...]:
    """Which positions hold equal values: the same for two settings that always vary together."""
    first: dict[Any, int] = {}
    return tuple(first.setdefault(value, len(first)) for value in values)


def telling(rows: Sequence[Row], lead: Sequence[str] = ()) -> list[str]:
    """The settings that tell rows apart, none that follows from the ones before it.

    Those in ``lead`` and ``FIRST`` are preferred, then those that all rows have (what only some
    have mostly follows from a plug-in or a stage that others lack), then short names.
    """
    order = [*lead, *FIRST]
    keys = {key for row in rows for key in row.settings}
    values = {key: [row.settings.get(key) for row in rows] for key in keys}
    several = {key for key in keys if len({*values[key]} - {None}) > 1}

    def rank(key: str) -> tuple[int, bool, bool, bool, int, int, str]:
        place = order.index(key) if key in order else len(order)
        lacking = None in values[key]
        return place, key in LAST, lacking, key not in several, key.count("."), len(key), key

    shown, seen, apart = [], {(0,) * len(rows)}, (0,) * len(rows)
    for key in sorted(keys, key=rank):
        parts = partition(values[key])
        finer = partition(zip(apart, parts, strict=True))
        # a setting such as the group size stays where it follows from the pruner but differs
        # between the pruners that have one
        differs = key in order and key in several
        if parts not in seen and (finer != apart or differs):
            shown.append(key)
            apart = finer
            seen.add(parts)
    return shown


def chosen(rows: Sequence[Row], literature: Sequence[Row]) -> list[str]:
    """The columns of a table for which none were asked: settings that differ, then numbers."""
    apart = telling(rows)
    if literature and "pruner" not in apart:  # the methods of published rows stand there
        apart = sorted([*apart, "pruner"], key=lambda k: (*FIRST, k).index(k))
    if "threads" not in apart and len({row.settings.get("threads") for row in rows}) > 1:
        apart.append("threads")
    present = {key for row in rows for key in row.metrics}
    rounds = any("round" in row.settings for row in rows)  # which have few numbers
    hidden = {*(METRICS if rounds else ["agreement"])} - present
    hidden |= set() if more_zeros(rows) else {ZEROS}
    return apart + [key for key in METRICS if key not in hidden]


def more_zeros(rows: Iterable[Row]) -> bool:
    """Whether some network has other zeros than those that its masks removed."""
    pairs = [(row.metrics.get(ZEROS), row.metrics.get(SHARES[1])) for row in rows]
    return any(zeros and gone and abs(zeros.mean - gone.mean) > 1e-4 for zeros, gone in pairs)


def remarks(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """What a reader must know below a table of measured rows with these columns."""
    zeros = f"{ZEROS} is the share of all conv and linear weights that are 0 in the network itself"
    return [
        *([f"{zeros}, by whatever cause."] if ZEROS in columns else []),
        *shared(rows, columns),
        *silent(rows, columns),
        *several_threads(rows, columns),
        *spread(rows),
    ]


def shared(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """The chief settings that all rows share."""
    keys = [key for key in FIRST if key not in columns and key in rows[0].settings]
    same = [key for key in keys if len({row.settings.get(key) for row in rows}) == 1]
    words = ", ".join(f"{key} {rows[0].settings[key]}" for key in same)
    return [f"The same in every measured row: {words}."] if same else []


def silent(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Settings that differ though no column shows them; copies of another are left out.

    These are numbers that follow from those shown, and whatever else tells rows apart.
    """
    apart = telling(rows)
    keys = {key for row in rows for key in row.settings} - {*columns}
    known = {tuple(row.settings.get(key) for row in rows) for key in columns}
    found = []
    for key in sorted(keys, key=lambda key: (key not in FIRST, key.count("."), key)):
        values = tuple(row.settings.get(key) for row in rows)
        several = list(dict.fromkeys(value for value in values if value is not None))
        numeric = any(isinstance(number(value), float) for value in several)
        if values not in known and len(several) > 1 and (numeric or key in apart):
            found.append(f"{key} ({', '.join(several)})")
        known.add(values)
    return [f"Without a column, but not the same in every row: {listed(found)}."] if found else []


def several_threads(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """That thread counts differ, and the rows that average over several."""
    counts = sorted({one.threads for row in rows for one in row.records} - {""}, key=by_number)
    if len(counts) < 2:
        return []
    mixed = [named(row, columns) for row in rows if "," in row.settings.get("threads", "")]
    inside = f"; seeds of several of them stand in one row: {listed(mixed)}" if mixed else ""
    counted = f"{', '.join(counts[:-1])} and {counts[-1]}"
    return [f"The number of threads changes results, and it was {counted}{inside}."]


def spread(rows: Sequence[Row]) -> list[str]:
    """What ± covers."""
    several = [row for row in rows if len(row.records) > 1]
    if not several:
        return ["Every row is one seed: how much another would change it is not known."]
    counts = {len(row.records) for row in several}
    seeds = f"{counts.pop()} seeds" if len(counts) == 1 else "seeds, their number in brackets"
    loaded = [
        row.settings.get("checkpoint", "null") != "null"
        and row.settings.get("checkpoint_new", "[]") == "[]"
        for row in several
    ]
    covers = ": it covers training, samples, calibration and masks"
    if any(loaded):
        start = ", all from one checkpoint: it" if all(loaded) else "; from a checkpoint it"
        covers = f"{start} covers samples, calibration and masks only, not training"
    return [f"± is the sample standard deviation over {seeds}{covers}."]


def listed(words: Sequence[str]) -> str:
    """A few words of a list, and how many more there are."""
    more = [f"and {len(words) - SEVERAL} more"] if len(words) > SEVERAL else []
    return "; ".join([*words[:SEVERAL], *more])


def named(row: Row, keys: Sequence[str]) -> str:
    """A row by some of its settings: 'gmi, groups 20'."""
    own = [key for key in keys if key in row.settings]
    words = [row.settings[k] if k in NAMES else f"{short(k, keys)} {row.settings[k]}" for k in own]
    return ", ".join(words) or row.settings.get("pruner", "the only row")


def short(key: str, keys: Sequence[str]) -> str:
    """The shortest end of a dotted name that no other of ``keys`` has."""
    ends = [key.split(".", i)[-1] for i in range(key.count("."), -1, -1)]
    others = [f".{other}" for other in keys]
    return next((end for end in ends if sum(o.endswith(f".{end}") for o in others) == 1), key)
