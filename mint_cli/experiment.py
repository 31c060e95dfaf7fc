"""The experiment: train, score, prune, retrain, evaluate, and the record of what came out."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from mint_cli import check
from mint_cli.errors import SettingError, owned
from mint_cli.network.checkpoint import Checkpoint
from mint_cli.signatures import bind, check_types
from mint_cli.stage.budget import Budget
from mint_cli.stage.common import Data, Network, Sites
from mint_cli.stage.cost import cost
from mint_cli.stage.evaluate import evaluate
from mint_cli.stage.prune import prune
from mint_cli.stage.retrain import retrain
from mint_cli.stage.score import score
from mint_cli.stage.shrink import shrink
from mint_cli.stage.train import train
from mint_cli.store import Artifact, Step, Store, line, step
from mint_cli.training.recipe import Recipe

PLUGINS = ("data", "model", "granularity", "criterion", "allocation", "compensation", "rounds")


@dataclass(frozen=True)
class Experiment:
    """Everything a result depends on."""

    data: Data
    model: partial
    checkpoint: Checkpoint | None
    skip: list[str]
    granularity: partial
    criterion: partial
    allocation: partial
    compensation: partial
    sparsity: float | None
    of: str
    batch_norm_images: int
    rounds: partial
    train: Recipe
    retrain: Recipe
    seed: int
    threads: int

    def __post_init__(self) -> None:
        for name in PLUGINS:
            with owned("dataset" if name == "data" else name):
                bind(self.data.dataset if name == "data" else getattr(self, name))
        check_types(Experiment, vars(self))
        if not 0 <= self.seed < 2**63:
            raise SettingError("seed", f"must lie between 0 and {2**63 - 1}", self.seed)
        for budget in self.budgets:
            if budget.sparsity is None and not decides(self.allocation):
                name = self.allocation.func.__name__
                raise SettingError("sparsity", f"must be a number for allocation {name}", "null")

    @property
    def training(self) -> Recipe | None:
        """How stage train trains; None where all weights come from a checkpoint."""
        return self.train if self.checkpoint is None or self.checkpoint.new else None

    @cached_property
    def network(self) -> Network:
        return Network(self.data, self.model, self.seed, self.threads)

    @property
    def sites(self) -> Sites:
        return Sites(self.skip, self.granularity)

    @property
    def budgets(self) -> list[Budget]:
        """How much is gone after every round."""
        asked = None if decides(self.allocation) else self.sparsity
        with owned("rounds"):
            shares = self.rounds(asked)
        return [Budget(share, self.of) for share in shares]

    @property
    def scored(self) -> bool:
        """Whether a score matters: not where counts alone do, and the compensation chooses which
        cells.
        """
        return not (flagged(self.compensation, "chooses") and flagged(self.allocation, "by_site"))


def flagged(plugin: partial, name: str) -> bool:
    """What a plug-in says of itself by an attribute of its function."""
    return getattr(plugin.func, name, False)


def decides(allocation: partial) -> bool:
    """Whether how much goes is the allocation's outcome, and no sparsity is asked for."""
    told = flagged(allocation, "decides")
    return told(**allocation.keywords) if callable(told) else told


class Round(NamedTuple):
    """The steps of one round."""

    score: Step | None
    prune: Step
    retrain: Step
    pruned: Step  # evaluation
    retrained: Step  # evaluation; of no epochs that of the pruned network


class Plan(NamedTuple):
    """All steps of an experiment, none of them taken."""

    train: Step
    dense: Step  # evaluation
    rounds: list[Round]
    shrink: Step | None
    shrunken: Step | None  # evaluation
    cost: Step  # of the dense network, the last one, and the smaller one

    @property
    def last(self) -> list[Step]:
        """Steps that need all others."""
        last = [
            self.dense,
            self.cost,
            *(s for r in self.rounds for s in (r.retrain, r.pruned, r.retrained)),
        ]
        return [*last, self.shrunken] if self.shrunken else last


def plan(e: Experiment) -> Plan:
    """The steps of the experiment, none of them taken."""
    first = current = step(train, e.network, e.checkpoint, e.training)
    rounds = []
    for number, budget in enumerate(e.budgets, 1):
        scores = (
            step(score, e.network, e.sites, e.criterion, e.seed, number, current)
            if e.scored
            else None
        )
        settings = (
            e.sites,
            budget,
            e.allocation,
            e.compensation,
            e.batch_norm_images,
            e.seed,
            number,
        )
        pruned = step(prune, e.network, *settings, current, scores)
        current = step(retrain, e.network, e.retrain, e.seed, number, pruned)
        measured = step(evaluate, e.network, pruned)
        after = step(evaluate, e.network, current) if e.retrain.epochs else measured
        rounds.append(Round(scores, pruned, current, measured, after))
    small = step(shrink, e.network, current) if flagged(e.granularity, "removable") else None
    return Plan(
        first,
        step(evaluate, e.network, first),
        rounds,
        small,
        small and step(evaluate, e.network, small),
        step(cost, e.network, first, current, small),
    )


def run(e: Experiment, store: Store) -> dict[str, Any]:
    """Do what is not done yet and return the results of the experiment, as its record holds
    them.
    """
    planned = plan(e)
    every = {s.key: s for last in planned.last for s in line(last)}
    if not all(store.has(s) for s in every.values()):
        check.check(e)
    return results(e, planned, {key: store.get(s) for key, s in every.items()})


def results(e: Experiment, planned: Plan, artifacts: dict[str, Artifact]) -> dict[str, Any]:
    """The measured part of a record."""

    def of(step: Step | None) -> Artifact | None:
        return step and artifacts[step.key]

    last = planned.rounds[-1]
    networks = {
        "dense": of(planned.dense),
        "pruned": of(last.pruned),
        "retrained": of(last.retrained),
    }
    if planned.shrink:
        networks["shrunken"] = of(planned.shrunken)
    pruned = of(last.prune).metrics
    scores = of(last.score)
    losses = {"dense": of(planned.train), "retrained": of(last.retrain)}
    return {
        "seed": e.seed,
        "threads": e.threads,
        "images": {"shape": list(e.network.pixels), "classes": e.data.splits.classes},
        "sparsity": {"asked": e.budgets[-1].sparsity, **pruned["sparsity"]},
        "weights": pruned["weights"],
        "accuracy": measured(networks, "test", "accuracy"),
        "loss": measured(networks, "test", "loss"),
        "validation_accuracy": measured(networks, "validation", "accuracy"),
        "correct": {name: correct(e, artifact) for name, artifact in networks.items()},
        "training_loss": {name: a.metrics["training_loss"] for name, a in losses.items()},
        "seconds": seconds(artifacts, planned),
        "reliability": scores and reliability(scores.metrics["reliability"]),
        "rounds": [in_round(of, r) for r in planned.rounds],
        "shrink": planned.shrink and of(planned.shrink).metrics,
        "cost": of(planned.cost).metrics,
        "checkpoint": e.checkpoint and e.checkpoint.sha256,
        "artifacts": {
            "train": planned.train.key,
            "score": last.score and last.score.key,
            "prune": last.prune.key,
            "retrain": last.retrain.key,
            **({"shrink": planned.shrink.key} if planned.shrink else {}),
        },
    }


def measured(networks: dict[str, Artifact], split: str, metric: str) -> dict[str, float | None]:
    """One figure of every network; None for a split without images."""
    return {name: a.metrics[split] and a.metrics[split][metric] for name, a in networks.items()}


def correct(e: Experiment, evaluated: Artifact) -> str:
    """Which test images were classified right: bits in their order (numpy.packbits), compressed by
    zlib, in base64.
    """
    right = evaluated.tensors["predicted/test"] == e.data.splits.test.labels.cpu()
    return base64.b64encode(zlib.compress(np.packbits(right.numpy()).tobytes(), 9)).decode()


def in_round(of, round: Round) -> dict[str, Any]:
    """What a round came to: sparsity, accuracy after it was pruned and after it was retrained,
    units by name.
    """
    networks = {"pruned": of(round.pruned), "retrained": of(round.retrained)}
    sparsity, units = (of(round.prune).metrics.get(name) for name in ("sparsity", "units"))
    return {
        "sparsity": {name: sparsity[name] for name in ("total", "of_all_weights", "zeros")},
        "accuracy": measured(networks, "test", "accuracy"),
        "validation_accuracy": measured(networks, "validation", "accuracy"),
        **({"units": units} if units else {}),
    }


def reliability(layers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Mean agreement of the scores' halves, and all figures by layer."""
    agreements = [r["agreement"] for r in layers.values() if r["agreement"] is not None]
    mean = sum(agreements) / len(agreements) if agreements else None
    return {"agreement": mean, "layers": layers}


def seconds(artifacts: dict[str, Artifact], planned: Plan) -> dict[str, float]:
    """Seconds of every stage over all rounds, and of all stages."""
    steps = {s.key: s for last in planned.last for s in line(last)}
    small = ["shrink"] if planned.shrink else []
    names = ("train", "score", "prune", "retrain", *small, "evaluate", "cost")
    found = dict.fromkeys(names, 0.0)
    for key, s in steps.items():
        found[s.name] += artifacts[key].seconds
    return {**found, "total": sum(found.values())}
