"""What ``mint-oracle`` writes: a table beside the published one, every map's numbers, plots."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

ROWS = ("per_layer", "all_layers", "normalised")
PUBLISHED = Path(__file__).with_name("correlations.csv")
SETS = ("VGG-16 / Birds-200", "VGG-16 / Flowers-102", "AlexNet / Flowers-102", "AlexNet / ImageNet")
ACROSS = 4  # panels in a row
Sites = dict[str, np.ndarray]  # one number a map, (maps,)


def published() -> dict[tuple[str, str], dict[str, float | None]]:
    """Table 1 of Molchanov et al. 2017 by set and criterion."""
    with PUBLISHED.open(newline="", encoding="utf-8") as lines:
        return {
            (line["set"], line["criterion"]): {
                row: float(line[row]) if line[row] else None for row in ROWS
            }
            for line in csv.DictReader(lines)
        }


def figure(value: float | None) -> str:
    """A correlation as the field writes it, or a dash."""
    return "–" if value is None else f"{value:.2f}".replace("0.", ".", 1).replace("-", "−")


def ours(found: dict[str, Any]) -> str:
    """A correlation with its interval."""
    if found["value"] is None:
        return "–"
    return f"{figure(found['value'])} [{figure(found['low'])}, {figure(found['high'])}]"


def table(record: dict[str, Any]) -> str:
    """Criteria with their three correlations, and the published ones of four sets beside them."""
    known = published()
    head = ["criterion", "per layer", "all layers", "all, ℓ2", *SETS]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for name, found in record["correlations"].items():
        beside = [known.get((one, name)) for one in SETS]
        cells = [" / ".join(figure(own[row]) for row in ROWS) if own else "" for own in beside]
        lines.append([name, *(ours(found[row]) for row in ROWS), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def text(record: dict[str, Any]) -> str:
    """The page of a record: what was measured, the table, how to read it."""
    about, halves = record["oracle"], record["halves"]
    return f"""# {record["model"]} on {record["dataset"]}: criteria against the oracle

{about["maps"]:,} maps of {about["sites"]} sites, each removed alone; change of the loss on
{about["images"]:,} training images (never test images). Spearman's rank correlation of every
criterion with the absolute change, [95 % interval over maps]. *Per layer*: mean over sites of the
correlation inside each; *all layers*: all maps together; *ℓ2*: so after a site's scores were
divided by their root sum of squares. The last four columns are Table 1 of Molchanov et al. 2017,
per layer / all / ℓ2, other networks and images.

{table(record)}
How far the oracle itself is noise: on one half of the images against the other half, per layer
{ours(halves["per_layer"])}, all layers {ours(halves["all_layers"])}; on all of them it is less so.

Loss of the whole network on these images {about["loss"]:.4f}, accuracy {about["accuracy"]:.2%};
{about["helps"]:,} maps whose removal lowers the loss, {about["idle"]:,} that change nothing.
"""


def rows(changes: dict[str, Sites], scores: dict[str, Sites]) -> str:
    """CSV: a line a map with what its removal changes and what every criterion says."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["site", "map", *(f"{kind}_change" for kind in changes), *scores])
    columns = [*changes.values(), *scores.values()]
    for site, own in columns[0].items():
        for place in range(len(own)):
            writer.writerow([site, place, *(f"{one[site][place]:.6g}" for one in columns)])
    return out.getvalue()


def scatter(
    path: Path, scores: dict[str, Sites], reference: Sites, values: dict[str, float | None]
) -> None:
    """A panel a criterion: every map at its score and its absolute loss change, colour by depth.

    Axes are logarithmic, with what is 0 at the lowest other value; those of scores that go below 0
    or span little are linear.
    """
    down = -(-len(scores) // ACROSS)
    figure_ = Figure(figsize=(3.2 * ACROSS, 2.9 * down), layout="constrained")
    axes = np.ravel(figure_.subplots(down, ACROSS, squeeze=False))
    depth = np.concatenate([np.full(len(own), k) for k, own in enumerate(reference.values())])
    up = floored(np.concatenate(list(reference.values())))
    for panel, (name, own) in zip(axes, scores.items(), strict=False):
        across = np.concatenate([np.asarray(own[site]) for site in reference])
        if (across >= 0).all() and wide(floored(across)):
            across = floored(across)
            panel.set_xscale("log")
            panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_yscale("log")
        points = panel.scatter(across, up, c=depth, s=4, cmap=colormaps["viridis"], linewidths=0)
        panel.set_title(f"{name}  {figure(values[name])}", fontsize="medium")
        panel.tick_params(labelsize="small")
    for panel in axes[len(scores) :]:
        panel.set_axis_off()
    figure_.supxlabel("score (title: Spearman over all layers)")
    figure_.supylabel("|change of the loss| without the map, nats")
    figure_.colorbar(points, ax=list(axes), label="site, in the order of the network", shrink=0.6)
    figure_.savefig(path, format="png", dpi=110)


def floored(values: np.ndarray) -> np.ndarray:
    """Values with those that are 0 at the lowest other one."""
    positive = values[values > 0]
    return np.maximum(values, positive.min() if len(positive) else 1e-12)


def wide(values: np.ndarray, least: float = 30.0) -> bool:
    """Whether positive values span more than a logarithmic axis needs."""
    return bool(values.max() / values.min() > least)
