"""The experiment from settings to record: plan, streams, rounds, and what the record says."""

import base64
import zlib
from dataclasses import replace
from functools import partial

import branches
import numpy as np
import pytest
import torch
from experiments import (
    CAPPED,
    ELIMINATION,
    KERNELS,
    L1,
    MLP,
    RANDOM,
    RECIPE,
    REFIT,
    RESELECT,
    SINGLE,
    SMALL,
    experiment,
)

from mint_cli.allocation.layer_quota import layer_quota
from mint_cli.allocation.threshold import threshold
from mint_cli.errors import SettingError
from mint_cli.experiment import plan, run
from mint_cli.granularity.filters import filters
from mint_cli.granularity.units import units
from mint_cli.network.checkpoint import Checkpoint
from mint_cli.schedule.cubic import cubic
from mint_cli.schedule.geometric import geometric
from mint_cli.store import Store, line

CHANNELS = partial(filters, residual=True)
LAYERED = partial(layer_quota)
DECIDES = partial(threshold, quantile=0.25, cap=1.0, caps={})


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", torch.device("cpu"))


BAD = {
    "a setting of a plug-in": (
        {"criterion": partial(L1, normalize=True)},
        "criterion.normalize is no setting of l1",
    ),
    "a missing one": (
        {"compensation": partial(REFIT.func, inputs="dense")},
        "compensation.calibration is needed",
    ),
    "its type": (
        {"allocation": partial(CAPPED, cap="all")},
        "allocation.cap must be a number, not 'all'",
    ),
    "skip": ({"skip": "fc1"}, "skip must be a list of texts, not 'fc1'"),
    "seed": ({"seed": -1}, "seed must lie between 0 and .*, not -1"),
    "a seed that no generator takes": ({"seed": 2**63}, "seed must be a whole number"),
    "sparsity": ({"sparsity": 1.0}, r"sparsity must lie in \[0, 1\), not 1.0"),
    "no sparsity": ({"sparsity": None}, "sparsity must be a number for allocation capped_quota"),
    "of": ({"of": "some"}, "of must be one of prunable, all"),
    "rounds": (
        {"rounds": partial(geometric, count=0)},
        "rounds.count must lie between 1 and 1000, not 0",
    ),
    "many rounds": (
        {"rounds": partial(cubic, count=10**9)},
        "rounds.count must lie between 1 and 1000",
    ),
    "rounds that an allocation decides": (
        {"rounds": partial(geometric, count=2), "allocation": DECIDES},
        "rounds.count above 1 needs a sparsity to go to, not 2",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_settings_that_do_not_fit_are_refused_when_the_experiment_is_made(case):
    changed, told = BAD[case]
    with pytest.raises(SettingError, match=f"^{told}"):
        experiment(**changed)


def test_settings_of_the_data_set_are_told_as_such():
    base = experiment()
    odd = replace(base.data, dataset=partial(base.data.dataset, size=3))
    with pytest.raises(SettingError, match="^dataset.size is no setting of stripes"):
        replace(base, data=odd)


def test_a_plan_takes_no_step_and_its_rounds_ask_for_what_the_schedule_says():
    e = experiment(rounds=partial(cubic, count=3), sparsity=0.8)
    asked = [r.prune.inputs[2].sparsity for r in plan(e).rounds]
    assert (
        asked == pytest.approx([0.8 * (1 - (1 - i / 3) ** 3) for i in (1, 2, 3)])
        and asked[-1] == 0.8
    )
    assert [b.sparsity for b in e.budgets] == asked


def test_an_allocation_that_decides_how_much_goes_is_not_asked_for_a_sparsity():
    e = experiment(allocation=DECIDES, sparsity=0.8)
    assert [b.sparsity for b in e.budgets] == [None]
    experiment(allocation=DECIDES, sparsity=None)


def test_scores_are_computed_only_where_they_matter():
    cases = {
        (c.func, a.func): experiment(compensation=c, allocation=a)
        for c in (REFIT, RESELECT)
        for a in (CAPPED, LAYERED)
    }
    scored = {key: e.scored for key, e in cases.items()}
    assert scored.pop((RESELECT.func, LAYERED.func)) is False and all(scored.values())
    for key, e in cases.items():
        steps = {s.name for last in plan(e).last for s in line(last)}
        assert ("score" in steps) is e.scored and (
            plan(e).rounds[0].score is not None
        ) is e.scored, key


def test_what_a_score_does_not_depend_on_does_not_make_it_anew():
    def key(stage, **changed):
        return getattr(plan(experiment(**changed)).rounds[0], stage).key

    for changed in (
        {"sparsity": 0.7},
        {"compensation": REFIT},
        {"retrain": RECIPE},
        {"allocation": LAYERED},
    ):
        assert key("score", **changed) == key("score")
        assert key("retrain", **changed) != key("retrain")
    for changed in (
        {"criterion": RANDOM},
        {"seed": 1},
        {"skip": ["fc1"]},
        {"granularity": SINGLE},
        {"threads": 2},
    ):
        assert key("score", **changed) != key("score")


def test_with_a_checkpoint_the_training_recipe_is_no_part_of_anything(tmp_path):
    torch.save(experiment().network.build().state_dict(), tmp_path / "x.pt")
    given = Checkpoint.of(tmp_path / "x.pt", None, "name", False)
    keys = [
        plan(experiment(checkpoint=given, train=t)).train.key
        for t in (RECIPE, replace(RECIPE, epochs=9))
    ]
    assert keys[0] == keys[1] != plan(experiment()).train.key


def test_what_a_checkpoint_leaves_new_makes_the_training_recipe_count(tmp_path):
    torch.save(experiment().network.build().state_dict(), tmp_path / "x.pt")
    old, new, other = (
        Checkpoint.of(tmp_path / "x.pt", None, "name", False, names)
        for names in ([], ["fc3"], ["fc2"])
    )
    keys = {plan(experiment(checkpoint=c)).train.key for c in (old, new, other)}
    longer = plan(experiment(checkpoint=new, train=replace(RECIPE, epochs=9))).train.key
    assert len(keys | {longer}) == 4


def test_no_retraining_is_measured_once():
    e = experiment(retrain=replace(RECIPE, epochs=0))
    (only,) = plan(e).rounds
    assert only.retrained is only.pruned
    (other,) = plan(experiment()).rounds
    assert other.retrained.key != other.pruned.key


def test_stages_and_rounds_never_share_a_stream(store, monkeypatch):
    """Whatever is drawn by any stage of any round from a generator of its own begins
    differently.
    """
    begun = []
    default_rng = np.random.default_rng

    def noted(seed=None):
        begun.append(tuple(seed) if isinstance(seed, list) else seed)
        return default_rng(seed)

    monkeypatch.setattr(np.random, "default_rng", noted)
    settings = {"rounds": partial(geometric, count=2), "criterion": RANDOM, "compensation": REFIT}
    run(experiment(**settings, retrain=replace(RECIPE, epochs=2)), store)
    stages = [seed for seed in begun if isinstance(seed, tuple)]
    initial = stages[0]
    drawn = [seed for seed in stages if seed != initial]  # a network is built by every stage
    assert (
        len(drawn) == len(set(drawn)) == 2 + 2 * (1 + 1 + 2)
    )  # epochs; score, prune, epochs a round


def decoded(correct: str, count: int) -> np.ndarray:
    return np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(correct)), np.uint8))[
        :count
    ]


def test_the_record_says_which_test_images_were_classified_right(store):
    e = experiment(criterion=RANDOM, sparsity=0.8)
    record, planned = run(e, store), plan(e)
    labels = e.data.splits.test.labels
    steps = {
        "dense": planned.dense,
        "pruned": planned.rounds[0].pruned,
        "retrained": planned.rounds[0].retrained,
    }
    for name, step in steps.items():
        bits = decoded(record["correct"][name], len(labels))
        predicted = store.get(step).tensors["predicted/test"]
        assert np.array_equal(bits, (predicted == labels).numpy())
        assert record["accuracy"][name] == bits.mean()
    assert len(set(record["accuracy"].values())) > 1


def test_the_record_holds_every_figure_once_and_null_where_there_is_none(store):
    record = run(experiment(validation=30), store)
    assert record["seed"] == 0 and record["threads"] == 1 and record["checkpoint"] is None
    assert record["sparsity"]["asked"] == record["sparsity"]["total"] == 0.5
    assert record["weights"] == {"prunable": 950, "all": 950, "kept": 475}
    for figure in ("accuracy", "loss", "validation_accuracy"):
        assert set(record[figure]) == {"dense", "pruned", "retrained"}
        assert all(isinstance(value, float) for value in record[figure].values())
    assert {n: len(v) for n, v in record["training_loss"].items()} == {"dense": 2, "retrained": 1}
    assert set(record["artifacts"]) == {"train", "score", "prune", "retrain"}
    assert record["reliability"]["agreement"] is None  # of weights there are no two halves
    assert set(record["reliability"]["layers"]) == {"fc1", "fc2", "fc3"}
    assert run(experiment(), store)["validation_accuracy"] == dict.fromkeys(
        ("dense", "pruned", "retrained")
    )


def test_the_agreement_of_a_record_is_the_mean_over_layers(store):
    record = run(experiment(criterion=RANDOM), store)["reliability"]
    own = [layer["agreement"] for layer in record["layers"].values()]
    assert record["agreement"] == pytest.approx(sum(own) / 3)


def test_without_a_score_its_step_is_absent_and_its_reliability_null(store):
    record = run(experiment(compensation=RESELECT, allocation=LAYERED), store)
    assert record["artifacts"]["score"] is None and record["reliability"] is None
    assert record["seconds"]["score"] == 0.0 and not (store.root / "score").exists()


def test_seconds_are_those_of_every_stage_over_all_rounds(store):
    e = experiment(rounds=partial(geometric, count=3))
    record, planned = run(e, store), plan(e)
    spent = {
        "train": [planned.train],
        "score": [r.score for r in planned.rounds],
        "prune": [r.prune for r in planned.rounds],
        "retrain": [r.retrain for r in planned.rounds],
        "evaluate": [planned.dense, *(s for r in planned.rounds for s in (r.pruned, r.retrained))],
        "cost": [planned.cost],
    }
    wanted = {name: sum(store.get(s).seconds for s in steps) for name, steps in spent.items()}
    assert {n: record["seconds"][n] for n in wanted} == pytest.approx(wanted)
    assert record["seconds"]["total"] == pytest.approx(sum(wanted.values()))
    assert all(record["seconds"][name] > 0 for name in wanted)


def test_every_round_is_in_the_record_and_the_last_one_is_the_result(store):
    record = run(experiment(rounds=partial(geometric, count=3), sparsity=0.7), store)
    asked = [1 - 0.3 ** (i / 3) for i in (1, 2, 3)]
    assert [r["sparsity"]["total"] for r in record["rounds"]] == pytest.approx(asked, abs=1e-3)
    last = record["rounds"][-1]
    for figure in ("total", "of_all_weights", "zeros"):
        assert last["sparsity"][figure] == record["sparsity"][figure]
    for name in ("pruned", "retrained"):
        assert last["accuracy"][name] == record["accuracy"][name]
    assert record["sparsity"]["asked"] == 0.7


def test_a_run_repeated_does_nothing_and_gives_the_same_record(store, monkeypatch):
    first = run(experiment(), store)
    before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*.safetensors")}
    monkeypatch.setattr(
        "mint_cli.check.check", None
    )  # nothing to check where nothing is left to do
    assert run(experiment(), store) == first
    assert before == {p: p.stat().st_mtime_ns for p in store.root.rglob("*.safetensors")}


def test_bad_settings_are_refused_before_anything_is_stored(store):
    with pytest.raises(SettingError, match="^skip must name layers"):
        run(experiment(skip=["fc9"]), store)
    assert not list(store.root.rglob("*.safetensors"))


WHOLE = {
    "l1, blocks": {},
    "refit, single weights": {"granularity": SINGLE, "compensation": REFIT},
    "elimination, in place": {"model": SMALL, "criterion": ELIMINATION, "compensation": RESELECT},
    "norms estimated again": {"model": SMALL, "compensation": REFIT, "batch_norm_images": 240},
    "all weights": {"of": "all", "skip": ["fc1"], "sparsity": 0.15},
    "an outcome": {"allocation": DECIDES, "sparsity": None},
    "whole channels": {"model": SMALL, "granularity": CHANNELS, "compensation": REFIT},
    "whole channels, by operations": {
        "model": SMALL,
        "granularity": CHANNELS,
        "criterion": ELIMINATION,
        "compensation": RESELECT,
        "of": "macs",
    },
}


@pytest.mark.parametrize("case", WHOLE)
def test_of_every_kind_of_experiment_the_zeros_of_the_network_are_in_the_record(store, case):
    e = experiment(**{"model": MLP, "granularity": KERNELS, **WHOLE[case]})
    record = run(e, store)
    last, held = plan(e).rounds[-1], {}
    for step in (last.prune, last.retrain):
        state = store.get(step).tensors
        names = [
            n
            for n in state
            if n.startswith("state/") and n.endswith("weight") and state[n].ndim > 1
        ]
        held[step.name] = sum(int((state[n] == 0).sum()) for n in names)
        whole = sum(state[n].numel() for n in names)
    told = record["sparsity"]
    assert whole == record["weights"]["all"] and told["zeros"] == pytest.approx(
        held["prune"] / whole
    )
    removed = round(told["of_all_weights"] * whole)
    # inputs that have lost everything get weights of 0.0 by a refit, which training may change
    assert removed <= held["retrain"] <= held["prune"]
    assert record["weights"]["kept"] == whole - removed


def of_units(shape, classes, /):
    """The network of residual units for grey images."""
    model = branches.residual()
    forward = model.of
    model.of = lambda m, x: forward(m, x.repeat(1, 3, 1, 1))
    return model


def test_every_round_says_which_units_stay_and_go_and_what_is_left(store):
    settings = {"model": partial(of_units), "granularity": partial(units, stages=False)}
    rounds = {"rounds": partial(geometric, count=2), "sparsity": 0.67, "of": "cells"}
    found = run(experiment(**settings, **rounds), store)
    first, second = (one["units"] for one in found["rounds"])
    assert len(first["gone"]) == 1 and len(second["gone"]) == 2
    assert set(first["gone"]) < set(second["gone"]) and len(second["kept"]) == 1
    assert first["fixed"] == dict.fromkeys(("stem", "short", "out"), "no shortcut goes past it")
    dense, small = found["cost"]["dense"], found["cost"]["shrunken"]
    assert dense["parameters"] > first["parameters"] > second["parameters"] >= small["parameters"]
    assert dense["macs"] > second["macs"] >= small["macs"] and found["shrink"]["reason"] is None
    assert found["accuracy"]["shrunken"] == found["accuracy"]["retrained"]
    assert "units" not in run(experiment(), store)["rounds"][0]
