"""The experiment: train, score, prune, retrain, and the record of what came out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from mint_cli import check, stage
from mint_cli.errors import SettingError
from mint_cli.stage.stages import Data, Network, Weights
from mint_cli.store import Artifact, Step, Store, line, step
from mint_cli.training.loop import Recipe


@dataclass(frozen=True)
class Experiment:
    """Everything a result depends on."""

    data: Data
    model: partial
    weights: Weights | None
    skip: list[str]
    criterion: partial
    allocation: partial
    compensation: partial
    batch_norm_images: int
    train: Recipe
    rounds: int
    retrain: Recipe
    seed: int

    @property
    def network(self) -> Network:
        return Network(self.data, self.model, self.seed)

    def __post_init__(self) -> None:
        for plugin in (self.data.dataset, self.model, self.criterion, self.allocation, self.compensation):
            door.bind(plugin)
        door.check_types("settings", Experiment, vars(self))
        if self.rounds < 1:
            raise SettingError(f"schedule.rounds must be at least 1, not {self.rounds}")
        if self.seed < 0:
            raise SettingError(f"seed must be at least 0, not {self.seed}")
        if self.rounds > 1 and "sparsity" not in self.allocation.keywords:
            raise SettingError("schedule.rounds above 1 needs an allocation with a sparsity")


def plan(e: Experiment) -> dict[str, Step]:
    """The steps of the experiment, none of them taken; those of the last round under plain names."""
    steps = {"train": step(stage.train, e.network, e.weights, None if e.weights else e.train)}
    current = steps["train"]
    for done in range(1, e.rounds + 1):
        steps["score"] = step(stage.score, e.network, e.skip, e.criterion, e.seed, current)
        allocation = in_round(e.allocation, done / e.rounds)
        settings = (allocation, e.compensation, e.batch_norm_images, e.seed)
        steps["prune"] = step(stage.prune, e.network, *settings, current, steps["score"])
        steps["retrain"] = current = step(stage.retrain, e.network, e.retrain, e.seed, steps["prune"])
    return steps


def in_round(allocation: partial, share: float) -> partial:
    """The allocation of a round: the same fraction of what is left goes in every round."""
    if share == 1:
        return allocation
    left = max(0.0, 1 - allocation.keywords["sparsity"])  # one above 1 is for the door to refuse
    return partial(allocation.func, **(allocation.keywords | {"sparsity": 1 - left**share}))


def run(e: Experiment, store: Store) -> dict[str, Any]:
    """Do what is not done yet and return the results of the experiment, as its record holds them."""
    steps = plan(e)
    every = line(steps["retrain"])
    if not all(store.has(s) for s in every):
        door.check(e)
    artifacts, seconds = {}, dict.fromkeys(steps, 0.0)
    for s in every:
        artifacts[s.name] = store.get(s)  # in the end those of the last round
        seconds[s.name] += artifacts[s.name].seconds
    return results(e, steps, artifacts, seconds)


def results(e: Experiment, steps: dict[str, Step], artifacts: dict[str, Artifact], seconds: dict[str, float]) -> dict[str, Any]:
    """The measured part of a record."""
    names = {"dense": "train", "pruned": "prune", "retrained": "retrain"}
    metrics = {name: artifacts[stage_name].metrics for name, stage_name in names.items()}

    def of(split: str, metric: str) -> dict[str, float | None]:
        return {name: m[split] and m[split][metric] for name, m in metrics.items()}

    signal = artifacts["score"].metrics["signal"]
    agreements = [r["agreement"] for r in signal.values() if r["agreement"] is not None]
    return {
        "seed": e.seed,
        "sparsity": {"asked": e.allocation.keywords.get("sparsity"), **metrics["pruned"]["sparsity"]},
        "weights": metrics["pruned"]["weights"],
        "accuracy": of("test", "accuracy"),
        "loss": of("test", "loss"),
        "validation_accuracy": of("validation", "accuracy"),
        "training_loss": {name: metrics[name]["training_loss"] for name in ("dense", "retrained")},
        "seconds": {**seconds, "total": sum(seconds.values())},
        "signal": {"agreement": sum(agreements) / len(agreements) if agreements else None, "layers": signal},
        "checkpoint": e.weights and e.weights.sha256,
        "artifacts": {name: s.key for name, s in steps.items()},
    }
