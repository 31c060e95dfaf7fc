"""The pruned network: what its record says is true of the network itself."""

import logging
from functools import partial

import numpy as np
import pytest
import torch
from experiments import (
    CAPPED,
    ELIMINATION,
    KERNELS,
    NONE,
    REFIT,
    RESELECT,
    SINGLE,
    SMALL,
    network,
    sites,
)

from mint_cli.allocation.layer_quota import layer_quota
from mint_cli.allocation.threshold import threshold
from mint_cli.errors import DataError, SettingError
from mint_cli.granularity.blocks import blocks
from mint_cli.granularity.filters import filters
from mint_cli.network.layers import apply_masks, weight_counts
from mint_cli.stage.budget import Budget
from mint_cli.stage.common import part, prefixed, stream
from mint_cli.stage.prune import check_kept, counted, prune, warn_of_collapse
from mint_cli.stage.score import score
from mint_cli.store import Artifact

CHANNELS = partial(filters, residual=True)
COUNTS = {"fc1.weight": 720, "fc2.weight": 200, "fc3.weight": 30}


def dense(masks=None, model=None, seed=0) -> Artifact:
    """A network as the train stage gives it, with masks of what is gone already."""
    built = network(model, seed).build() if model else network(seed=seed).build()
    apply_masks(built, masks or {})
    return Artifact(prefixed("state", built.state_dict()) | prefixed("mask", masks or {}), {}, 0.0)


def uniform(shapes, seed=0) -> Artifact:
    """Scores by chance, none of them below 0."""
    generator = torch.Generator().manual_seed(seed)
    scores = {n: torch.rand(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()}
    return Artifact(scores, {"additive": False}, 0.0)


SHAPES = {"fc1": (20, 36), "fc2": (10, 20), "fc3": (3, 10)}


def pruned(context, trained=None, scores=None, **changed) -> Artifact:
    settings = {"granularity": KERNELS, "skip": [], "sparsity": 0.5, "of": "prunable"}
    settings |= {
        "allocation": CAPPED,
        "compensation": NONE,
        "batch_norm_images": 0,
        "seed": 0,
        "round": 1,
    }
    settings |= {"model": None} | changed
    own = network(settings["model"]) if settings["model"] else network()
    steps = (
        Budget(settings["sparsity"], settings["of"]),
        settings["allocation"],
        settings["compensation"],
    )
    rest = (settings["batch_norm_images"], settings["seed"], settings["round"])
    where = sites(settings["granularity"], settings["skip"])
    trained = trained or dense(model=settings["model"])
    scores = uniform(SHAPES) if scores is None else scores or None
    return Artifact(*prune(own, where, *steps, *rest, trained, scores, context), 0.0)


def zeros(found: Artifact) -> dict[str, int]:
    return {name: int((part("state", found)[name] == 0).sum()) for name in COUNTS}


@pytest.mark.parametrize("granularity", [KERNELS, SINGLE], ids=["kernels", "weights"])
def test_zeros_of_the_network_are_what_the_record_says(context, granularity):
    found = pruned(context, granularity=granularity, sparsity=0.6)
    told, held = found.metrics["sparsity"], zeros(found)
    assert (
        sum(held.values()) == 570
        and told["total"] == told["of_all_weights"] == told["zeros"] == 0.6
    )
    for name, count in COUNTS.items():
        assert told["layers"][name.partition(".")[0]] == held[name] / count
    assert found.metrics["weights"] == {"prunable": 950, "all": 950, "kept": 380}


def test_the_lowest_scores_go_and_everything_else_stays_as_it_was(context):
    scores = uniform(SHAPES)
    found, given = pruned(context, scores=scores), dense()
    cut = torch.cat([own.flatten() for own in scores.tensors.values()]).sort().values[474]
    for name, own in scores.tensors.items():
        mask = part("mask", found)[f"{name}.weight"]
        assert torch.equal(mask, own > cut)
        weight, before = (part("state", a)[f"{name}.weight"] for a in (found, given))
        assert torch.equal(weight, torch.where(mask, before, 0.0))
    for name, value in part("state", given).items():
        assert name in COUNTS or torch.equal(part("state", found)[name], value)


def test_skipped_layers_stay_and_count_among_all_weights_only(context):
    found = pruned(context, skip=["fc1", "fc3"], sparsity=0.5)
    told = found.metrics["sparsity"]
    assert zeros(found) == {"fc1.weight": 0, "fc2.weight": 100, "fc3.weight": 0}
    assert told["total"] == 0.5 and told["of_all_weights"] == told["zeros"] == 100 / 950
    assert found.metrics["weights"] == {"prunable": 200, "all": 950, "kept": 850}
    of_all = pruned(context, skip=["fc1", "fc3"], sparsity=0.1, of="all")
    assert zeros(of_all)["fc2.weight"] == 95


def test_more_than_there_is_is_refused_with_the_most_that_can_go(context):
    with pytest.raises(
        SettingError, match="^sparsity can be at most 0.2094 of all weights .*not 0.3"
    ):
        pruned(context, skip=["fc1", "fc3"], sparsity=0.3, of="all")


def test_a_network_whose_masks_did_not_take_is_an_error():
    model, mask = network().build(), torch.rand(10, 20) < 0.5
    cells = sites(skip=["fc1", "fc3"]).cells(network())
    with pytest.raises(DataError, match="removed weights of fc2.weight have values"):
        counted(model, cells, {"fc2.weight": mask}, weight_counts(model))
    apply_masks(model, {"fc2.weight": mask})
    told = counted(model, cells, {"fc2.weight": mask}, weight_counts(model))
    assert told["sparsity"]["total"] == float((~mask).sum()) / 200
    with torch.no_grad():
        model.fc2.weight[mask.nonzero()[0][0], mask.nonzero()[0][1]] = 0.0
        model.fc1.weight[0, 0] = 0.0
    told = counted(model, cells, {"fc2.weight": mask}, weight_counts(model))["sparsity"]
    assert round((told["zeros"] - told["of_all_weights"]) * 950) == 2  # zeros that no mask holds


def test_zeros_that_came_with_the_network_stay_and_count_into_what_is_wanted(context):
    """A checkpoint with masks of single weights: 300 of fc1 are gone, and 475 of 950 are to go."""
    former = torch.ones(20, 36, dtype=torch.bool)
    former.view(-1)[:300] = False
    scores = uniform(SHAPES)
    scores.tensors["fc1"] += 10  # left alone, were nothing gone
    for granularity in (KERNELS, SINGLE):
        found = pruned(context, dense({"fc1.weight": former}), scores, granularity=granularity)
        held = zeros(found)
        assert held["fc1.weight"] == 300 and sum(held.values()) == 475
        assert not part("state", found)["fc1.weight"][~former].any()
        assert found.metrics["sparsity"]["total"] == 0.5


def test_of_a_skipped_layer_the_zeros_stay_too_and_are_counted_among_all(context):
    former = {"fc1.weight": torch.arange(720).view(20, 36) >= 20}
    found = pruned(context, dense(former), skip=["fc1"], sparsity=0.5)
    told = found.metrics["sparsity"]
    assert zeros(found)["fc1.weight"] == 20 and told["total"] == 0.5
    assert told["of_all_weights"] == told["zeros"] == (20 + 115) / 950
    assert not part("mask", found)["fc1.weight"].flatten()[:20].any()


@pytest.mark.parametrize("compensation", [NONE, REFIT, RESELECT], ids=["none", "refit", "reselect"])
@pytest.mark.parametrize(
    "allocation", [CAPPED, partial(layer_quota)], ids=["one quota", "layer quotas"]
)
def test_more_zeros_than_are_wanted_stay_all_the_same_and_none_is_refitted(
    context, allocation, compensation
):
    former = {"fc2.weight": torch.arange(200).view(10, 20) >= 120}
    found = pruned(
        context, dense(former), sparsity=0.02, allocation=allocation, compensation=compensation
    )
    weight = part("state", found)["fc2.weight"]
    assert not weight[~former["fc2.weight"]].any()
    assert found.metrics["sparsity"]["layers"]["fc2"] >= 0.6
    assert found.metrics["sparsity"]["total"] == pytest.approx(
        sum(zeros(found).values()) / 950, abs=0.02
    )


BLOCKS = partial(blocks, child_groups=2, parent_groups={"default": 2, "stem": 1})


def halved():
    """Masks that cut through blocks: every second weight of fc2 is gone."""
    return {"fc2.weight": torch.arange(200).view(10, 20) % 2 == 0}


def test_zeros_that_cut_through_cells_stay_and_are_counted(context):
    found = pruned(
        context,
        dense(halved()),
        uniform({n: (2, 2) for n in SHAPES}),
        granularity=BLOCKS,
        sparsity=0.2,
    )
    mask, told = part("mask", found)["fc2.weight"], found.metrics["sparsity"]
    assert not mask[~halved()["fc2.weight"]].any() and zeros(found)["fc2.weight"] >= 100
    assert told["of_all_weights"] == told["zeros"] == sum(zeros(found).values()) / 950


def test_a_compensation_that_counts_on_weights_that_are_gone_is_an_error_and_no_wrong_network(
    context,
):
    settings = {"granularity": BLOCKS, "sparsity": 0.2, "compensation": REFIT}
    wanted = (
        "compensation refit gave values to removed weights of fc2.weight; .* granularity weights"
    )
    with pytest.raises(DataError, match=wanted):
        pruned(context, dense(halved()), uniform({n: (2, 2) for n in SHAPES}), **settings)
    found = pruned(context, dense(halved()), granularity=SINGLE, sparsity=0.3, compensation=REFIT)
    assert not part("state", found)["fc2.weight"][~halved()["fc2.weight"]].any()


def in_rounds(
    context, compensation, allocation=CAPPED, granularity=KERNELS, criterion=None, model=None
):
    """Three rounds, each with scores of its own that do not know what is gone."""
    current, found = dense(model=model), []
    own, where = (network(model) if model else network()), sites(granularity)
    for number, sparsity in enumerate((0.3, 0.5, 0.7), 1):
        if criterion:
            tensors, metrics = score(own, where, criterion, 0, number, current, context)
            scores = Artifact(tensors, metrics, 0.0)
        else:
            shapes = {n: tuple(c.shape) for n, c in where.cells(own).items()}
            scores = uniform(shapes, seed=number)
        current = pruned(
            context,
            current,
            scores,
            sparsity=sparsity,
            round=number,
            model=model,
            granularity=granularity,
            allocation=allocation,
            compensation=compensation,
        )
        found.append(current)
    return found


ROUNDS = {
    "none": (NONE, CAPPED, KERNELS, None, None),
    "refit": (REFIT, CAPPED, KERNELS, None, None),
    "reselect": (RESELECT, CAPPED, KERNELS, None, None),
    "reselect, layer quotas": (RESELECT, partial(layer_quota), KERNELS, None, None),
    "reselect, single weights": (RESELECT, CAPPED, SINGLE, None, None),
    "reselect, elimination": (RESELECT, CAPPED, KERNELS, ELIMINATION, SMALL),
    "reselect, elimination, blocks": (RESELECT, CAPPED, BLOCKS, ELIMINATION, SMALL),
}


@pytest.mark.parametrize("case", ROUNDS)
def test_a_later_round_never_revives_what_an_earlier_one_removed_and_reaches_its_sparsity(
    context, case
):
    compensation, allocation, granularity, criterion, model = ROUNDS[case]
    rounds = in_rounds(context, compensation, allocation, granularity, criterion, model)
    for before, after in zip(rounds, rounds[1:], strict=False):
        for name, mask in part("mask", before).items():
            assert not part("mask", after)[name][~mask].any()
            weight = part("state", after)[name]
            spread = mask.reshape(mask.shape + (1,) * (weight.ndim - mask.ndim)).expand_as(weight)
            assert not weight[~spread].any()
    near = 0.15 if granularity is BLOCKS else 0.06 if "layer" in case else 0.01
    for found, sparsity in zip(rounds, (0.3, 0.5, 0.7), strict=True):
        assert found.metrics["sparsity"]["total"] == pytest.approx(sparsity, abs=near)


def test_a_compensation_draws_from_the_stages_own_stream_another_one_in_every_round(context):
    drawn = []

    def drawing(model, cells, kept, gone, images, rng, /):
        drawn.append(rng.integers(2**62))
        return kept, {}

    for seed, number in ((0, 1), (0, 1), (0, 2), (1, 1)):
        pruned(context, compensation=partial(drawing), seed=seed, round=number)
    wanted = [
        np.random.default_rng(stream(*own)).integers(2**62)
        for own in ((0, "prune"), (0, "prune", 2))
    ]
    assert drawn[0] == drawn[1] == wanted[0] and drawn[2] == wanted[1] != drawn[3] != drawn[0]


def test_calibration_images_differ_between_seeds_and_between_rounds(context):
    def weight(seed, number):
        return part("state", pruned(context, compensation=REFIT, seed=seed, round=number))[
            "fc2.weight"
        ]

    first, again, later, other = (weight(*own) for own in ((0, 1), (0, 1), (0, 2), (1, 1)))
    assert torch.equal(first, again)
    assert not torch.equal(first, later) and not torch.equal(first, other)


def test_a_compensation_gets_the_choice_what_is_gone_and_the_training_images(context):
    seen = {}

    def spy(model, cells, kept, gone, images, rng, /):
        seen.update(kept=kept, gone=gone, images=images, model=model)
        return kept, {"fc2.bias": torch.full((10,), 7.0)}

    former = {"fc2.weight": torch.arange(200).view(10, 20) >= 30}
    found = pruned(context, dense(former), compensation=partial(spy))
    assert {n: tuple(own.shape) for n, own in seen["gone"].items()} == SHAPES
    assert seen["gone"]["fc2"].sum() == 30 and not (seen["kept"]["fc2"] & seen["gone"]["fc2"]).any()
    assert len(seen["images"]) == 240 and not seen["model"].training
    assert (part("state", found)["fc2.bias"] == 7.0).all()


def test_where_scores_decide_nothing_none_are_needed(context):
    found = pruned(
        context, scores=False, compensation=RESELECT, allocation=partial(layer_quota), sparsity=0.4
    )
    assert found.metrics["sparsity"]["layers"] == pytest.approx(
        {"fc1": 0.4, "fc2": 0.4, "fc3": 0.4}
    )


def test_statistics_are_estimated_again_on_request_after_the_weights_are_final(context):
    from mint_cli.network.observe import reestimate_batch_norm

    own = network(SMALL)
    shapes = {n: tuple(c.shape) for n, c in sites().cells(own).items()}
    settings = {"model": SMALL, "scores": uniform(shapes)}
    plain, found = (pruned(context, batch_norm_images=n, **settings) for n in (0, 240))
    states = [part("state", a) for a in (plain, found)]
    assert all(
        torch.equal(states[0][n], states[1][n])
        for n in states[0]
        if "running" not in n and "tracked" not in n
    )
    model = own.build(states[0])
    reestimate_batch_norm(
        model, own.data.splits.train, 240, np.random.default_rng(stream(0, "prune"))
    )
    torch.testing.assert_close(
        model.norm.running_mean, states[1]["norm.running_mean"], rtol=1e-4, atol=1e-6
    )
    assert not torch.allclose(states[0]["norm.running_mean"], states[1]["norm.running_mean"])


def keeping_too_little(scores, sizes, wanted, /):
    return {site: torch.ones(own.shape[:1], dtype=torch.bool) for site, own in sizes.items()}


def keeping_by_degrees(scores, sizes, wanted, /):
    return {site: torch.ones(own.shape) for site, own in sizes.items()}


@pytest.mark.parametrize("allocation", [keeping_too_little, keeping_by_degrees])
def test_what_an_allocation_returns_is_checked_and_it_is_told_by_name(context, allocation):
    with pytest.raises(
        DataError, match=f"allocation {allocation.__name__} must give one bool a cell"
    ):
        pruned(context, allocation=partial(allocation))
    cells = sites().cells(network())
    check_kept(
        partial(allocation),
        cells,
        {n: torch.ones(c.shape, dtype=torch.bool) for n, c in cells.items()},
    )


def test_an_allocation_that_decides_how_much_goes_needs_no_sparsity(context):
    scores = uniform(SHAPES)
    decides = partial(threshold, quantile=0.25, cap=1.0, caps={})
    found = pruned(context, scores=scores, allocation=decides, sparsity=None)
    assert found.metrics["sparsity"]["total"] == pytest.approx(0.25, abs=0.01)


def keep(out: int, entering: int, rows, columns) -> torch.Tensor:
    mask = torch.zeros(out, entering, dtype=torch.bool)
    mask[rows, columns] = True
    return mask


@pytest.mark.parametrize(("passed_on", "told"), [(3, False), (4, True)])
def test_a_pruning_that_cuts_every_path_is_told_and_one_that_leaves_a_single_path_is_not(
    caplog, passed_on, told
):
    model, images = network().build(), network().data.splits.train
    with torch.no_grad():
        for name in ("fc1", "fc2", "fc3"):
            model.get_submodule(name).weight.abs_()  # alive on every image
        model.fc1.bias.fill_(20.0)
    fc2 = keep(10, 20, slice(None), passed_on)
    apply_masks(model, {"fc1.weight": keep(20, 36, 3, slice(None)), "fc2.weight": fc2})
    with caplog.at_level(logging.WARNING):
        warn_of_collapse(model.eval(), images)
    assert ("cut every path" in caplog.text) is told


def test_additive_scores_rank_by_their_loss_a_unit_of_the_budget(context):
    """A stem channel loses less a weight than an inner one, but more an operation."""
    shapes, level = {"stem": 6, "inner": 6}, {"stem": 1.0, "inner": 1.01}
    scores = {s: torch.full((n,), level[s], dtype=torch.float64) for s, n in shapes.items()}
    gone = {}
    for additive in (False, True):
        ranks = Artifact(scores, {"additive": additive}, 0.0)
        asked = {"granularity": CHANNELS, "of": "macs", "sparsity": 0.2, "model": SMALL}
        found = pruned(context, scores=ranks, **asked)
        masks = part("mask", found)
        rows = (masks["stem.weight"].flatten(), masks["inner.weight"].flatten(1).any(1))
        gone[additive] = [int((~left).sum()) for left in rows]
    assert gone[False][0] > gone[True][0] and gone[False][1] < gone[True][1]
