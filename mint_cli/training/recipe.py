"""How to optimise: one value that training and retraining share."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mint_cli.errors import SettingError
from mint_cli.signatures import check_types


@dataclass(frozen=True)
class Recipe:
    """How to optimise: SGD with momentum, one learning-rate decay, one precision."""

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    nesterov: bool
    weight_decay: float
    decay: str  # step: times gamma at each milestone; cosine: to zero over all epochs
    milestones: list[int]
    gamma: float
    warmup: int  # epochs of linear rise from zero
    label_smoothing: float
    precision: str  # float32 | bfloat16 (autocast)
    compile: bool

    def __post_init__(self) -> None:
        check_types(Recipe, vars(self))
        for name, low, high in BOUNDS:
            value = getattr(self, name)
            if not low <= value <= high or math.isinf(value):
                raise SettingError(name, f"must lie between {low} and {high:g}", value)
        for name, options in (
            ("decay", ("step", "cosine")),
            ("precision", ("float32", "bfloat16")),
        ):
            if getattr(self, name) not in options:
                # auto is settled before a recipe is made
                known = ", ".join((*options, "auto") if name == "precision" else options)
                raise SettingError(name, f"must be one of {known}", getattr(self, name))
        if sorted(set(self.milestones)) != self.milestones or min(self.milestones, default=0) < 0:
            raise SettingError(
                "milestones", "must rise from one to the next, from 0 on", self.milestones
            )


BOUNDS = (
    ("epochs", 0, 100_000),
    ("batch_size", 1, 2**31),
    ("learning_rate", 0, 1e6),
    ("momentum", 0, 0.9999),
    ("weight_decay", 0, 1e6),
    ("gamma", 0, 1e6),
    ("warmup", 0, 100_000),
    ("label_smoothing", 0, 1),
)


def learning_rate(recipe: Recipe, epoch: float) -> float:
    """Learning rate at a moment of training, in epochs since its start."""
    rise = min(1.0, epoch / recipe.warmup) if recipe.warmup else 1.0
    if recipe.decay == "cosine":
        done = max(0.0, epoch - recipe.warmup) / max(1e-9, recipe.epochs - recipe.warmup)
        return recipe.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return recipe.learning_rate * rise * recipe.gamma ** sum(epoch >= m for m in recipe.milestones)
