"""Train, score, prune, retrain and shrink networks from YAML, with controls in every table."""

from __future__ import annotations

from typing import Any

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """``mint_cli.load``, imported when it is asked for: torch is heavy."""
    if name == "load":
        from mint_cli.packed import load

        return load
    raise AttributeError(f"module {__name__} has no attribute {name}")
