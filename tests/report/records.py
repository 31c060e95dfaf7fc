"""Records for tests, and what a Markdown table of them says."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def record(
    pruner: str = "gmi",
    seed: int = 0,
    groups: int = 20,
    retrained: float | None = 0.97,
    **changes: Any,
) -> dict[str, Any]:
    """A record as ``mint-run`` writes it, with copies of settings as interpolation makes them."""
    criterion: dict[str, Any] = {"_target_": f"mint_cli.criterion.{pruner}.{pruner}"}
    criterion |= {"samples_per_class": 250} if pruner == "gmi" else {}
    blocks = {"_target_": "mint_cli.granularity.blocks.blocks", "child_groups": groups}
    calibration = {"_target_": "mint_cli.solver.rows.Calibration", "images": 1000}
    config = {
        "dataset": {"_target_": "mint_cli.dataset.mnist.mnist", "seed": seed},
        "model": {"_target_": "mint_cli.model.mlp.mlp", "_partial_": True, "dropout": 0.2},
        "pruner": {
            "sparsity": 0.9,
            "groups": groups,
            "granularity": blocks,
            "calibration": calibration,
            "criterion": criterion,
        },
        "schedule": {"rounds": {"_target_": "mint_cli.schedule.oneshot.oneshot"}},
        "checkpoint": None,
        "seed": seed,
        "data": f"data{seed}",
        "store": f"store{seed}",
        "threads": None,
    }
    names = {"dataset": "mnist", "model": "mlp", "pruner": pruner, "schedule": "standard"}
    sparsity = {"asked": 0.9, "total": 0.9, "of_all_weights": 0.25, "layers": {"fc2": 0.9}}
    measured = {
        "threads": 1,
        "sparsity": sparsity,
        "weights": {"prunable": 150000, "all": 545000, "kept": 15000},
        "accuracy": {"dense": 0.98, "pruned": 0.5, "retrained": retrained},
        "seconds": {"train": 2.0, "score": 1.0, "total": 3.0},
        "reliability": {"agreement": None, "layers": {}},
        "checkpoint": None,
    }
    return {"schema": 2, **names, "seed": seed, **measured, "config": config} | changes


def predicted(right: Iterable[bool], state: str = "retrained", **settings: Any) -> dict[str, Any]:
    """A record that says which test images it got right in one state."""
    right = [bool(one) for one in right]
    made = record(**settings)
    made["accuracy"] = {state: sum(right) / len(right)}
    made["correct"] = {state: packed(right)}
    return made


def packed(right: list[bool]) -> str:
    """Bits eight a byte, the first image highest, compressed, in base64."""
    bits = "".join("01"[one] for one in right).ljust(-(-len(right) // 8) * 8, "0")
    content = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    return base64.b64encode(zlib.compress(content)).decode()


def folder(root: Path, *records: dict[str, Any]) -> Path:
    """Write records into sub-folders of ``root``."""
    for place, one in enumerate(records):
        path = root / f"run{place}" / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(one))
    return root


def lines(text: str) -> list[list[str]]:
    """The cells of a Markdown table, heading first, the rule left out."""
    found = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found]
    return rows[:1] + rows[2:]


def column(text: str, name: str) -> list[str]:
    """The cells below one heading."""
    heading, *body = lines(text)
    return [row[heading.index(name)] for row in body]


def notes(text: str) -> list[str]:
    """The sentences below a Markdown table."""
    return [line[2:] for line in text.splitlines() if line.startswith("- ")]
