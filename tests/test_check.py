"""The dry run: whatever would fail later fails before any work, by name."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from experiments import (
    CALIBRATION,
    CAPPED,
    ELIMINATION,
    KERNELS,
    L1,
    REFIT,
    RESELECT,
    SINGLE,
    SMALL,
    experiment,
    stripes,
)
from torch import nn

from mint_cli.allocation.layer_quota import layer_quota
from mint_cli.check import check
from mint_cli.criterion.conditional_information import conditional_information
from mint_cli.criterion.taylor import taylor
from mint_cli.errors import SettingError
from mint_cli.estimator.gmi import gmi
from mint_cli.granularity.blocks import blocks
from mint_cli.network.checkpoint import Checkpoint
from mint_cli.protocol import Cells, Estimate, Splits, checked_by
from mint_cli.schedule.geometric import geometric
from mint_cli.stage.common import Data


def test_what_can_be_done_passes_and_nothing_is_trained(monkeypatch):
    monkeypatch.setattr("mint_cli.training.loop.fit", None)
    for changed in (
        {},
        {"granularity": SINGLE, "criterion": ELIMINATION, "compensation": RESELECT, "model": SMALL},
        {"compensation": REFIT, "skip": ["fc1"], "allocation": partial(layer_quota)},
        {"rounds": partial(geometric, count=3), "batch_norm_images": 240},
    ):
        check(experiment(**changed))


def per_class(count: int) -> partial:
    return partial(taylor, samples_per_class=count, batch_size=10, normalise=False)


GMI = partial(gmi, splits=1, scale="none")
WIDE = partial(blocks, child_groups={"default": None, "fc2": 11}, parent_groups=None)

BAD = {
    "batch-norm images": (
        {"batch_norm_images": 1},
        "batch_norm_images must be 0 or lie between 2 and 240",
    ),
    "negative batch-norm images": ({"batch_norm_images": -5}, "batch_norm_images must be .*not -5"),
    "skip": ({"skip": ["fc9"]}, r"skip must name layers of the network \(fc1, fc2, fc3\), not fc9"),
    "groups": (
        {"granularity": WIDE},
        "granularity.child_groups must lie between 1 and 10, the channels of layer fc2",
    ),
    "groups of no layer": (
        {
            "granularity": partial(
                blocks, child_groups={"default": None, "fc_2": 3}, parent_groups=None
            )
        },
        "granularity.child_groups names layer fc_2, which the network does not have; did you "
        "mean fc2?",
    ),
    "caps of no layer": (
        {"allocation": partial(CAPPED, caps={"fc22": 0.5})},
        "allocation.caps names layer fc22, which the network does not have; did you mean fc2?",
    ),
    "caps by default": (
        {"allocation": partial(CAPPED, caps={"default": 0.5})},
        "allocation.caps names layer default, which the network does not have",
    ),
    "caps of what is no layer": (
        {"allocation": partial(CAPPED, caps={"relu1": 0.5})},
        "allocation.caps names layer relu1, which the network does not have; .*fc1",
    ),
    "caps that are numbers": (
        {"allocation": partial(CAPPED, caps={1: 0.5})},
        "allocation.caps names layer 1, which the network does not have; it has fc1, fc2, fc3",
    ),
    "cap": (
        {"allocation": partial(CAPPED, cap=1.5)},
        r"allocation.cap must lie in \[0, 1\], not 1.5",
    ),
    "sparsity": (
        {"allocation": partial(CAPPED, cap=0.4)},
        "sparsity can be at most 0.4000 of the prunable weights with these layers and caps, "
        "not 0.5",
    ),
    "samples": (
        {"criterion": per_class(81)},
        "criterion.samples_per_class must lie between 1 and 80",
    ),
    "batch size": (
        {"criterion": partial(per_class(10), batch_size=0)},
        "criterion.batch_size must be at least 1, not 0",
    ),
    "calibration images": (
        {"compensation": partial(REFIT, calibration=replace(CALIBRATION, images=241))},
        "compensation.calibration.images must lie between 1 and 240, the training images, not 241",
    ),
    "rows": (
        {"compensation": partial(RESELECT, calibration=replace(CALIBRATION, images=10))},
        "compensation.calibration.images must be at least 36, not 10",
    ),
    "inputs": (
        {"compensation": partial(REFIT, inputs="sparse")},
        "compensation.inputs must be one of dense, pruned",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_would_fail_later_is_refused_by_its_name_and_owner(case):
    changed, told = BAD[case]
    with pytest.raises(SettingError, match=f"^{told}"):
        check(experiment(**changed))


def test_caps_and_groups_of_skipped_layers_may_be_named():
    mixed = {"default": None, "fc1": 3}
    check(
        experiment(
            skip=["fc1"],
            allocation=partial(CAPPED, caps={"fc1": 0.1}),
            granularity=partial(blocks, child_groups=mixed, parent_groups=None),
        )
    )


def test_every_round_must_be_reachable():
    rounds = partial(geometric, count=2)
    capped = {"allocation": partial(CAPPED, cap=0.6), "sparsity": 0.7}
    with pytest.raises(SettingError, match="sparsity can be at most 0.6.*not 0.7"):
        check(experiment(rounds=rounds, **capped))


def test_a_criterion_whose_scores_are_not_looked_at_is_not_checked():
    chosen = {"compensation": RESELECT, "allocation": partial(layer_quota)}
    check(experiment(criterion=per_class(81), **chosen))
    with pytest.raises(SettingError, match="^criterion.samples_per_class"):
        check(experiment(criterion=per_class(81), **chosen | {"allocation": CAPPED}))


class Normed(nn.Module):
    """A batch norm that sees one number a channel and image."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm, self.fc2 = nn.Linear(36, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc2(self.norm(self.fc1(x.flatten(1))).relu())


def normed(shape, classes, /):
    return Normed()


@pytest.mark.parametrize("name", ["train", "retrain"])
def test_batches_of_one_are_refused_where_a_norm_needs_two(name):
    model, base = partial(normed), experiment()
    with pytest.raises(SettingError, match=f"^{name}.batch_size .* must be at least 2 .*, not 1"):
        check(experiment(model=model, **{name: replace(getattr(base, name), batch_size=1)}))
    check(experiment(model=model, **{name: replace(getattr(base, name), batch_size=1, epochs=0)}))
    check(experiment(**{name: replace(getattr(base, name), batch_size=1)}))


def test_a_recipe_that_a_checkpoint_stands_in_for_is_not_checked(tmp_path):
    torch.save(Normed().state_dict(), tmp_path / "x.pt")
    given = Checkpoint.of(tmp_path / "x.pt", None, "name", False)
    single = replace(experiment().train, batch_size=1)
    check(experiment(model=partial(normed), train=single, checkpoint=given))


def test_what_starts_anew_must_be_there_and_be_trained(tmp_path):
    torch.save(experiment().network.build().state_dict(), tmp_path / "x.pt")

    def given(*new):
        return Checkpoint.of(tmp_path / "x.pt", None, "name", False, new)

    check(experiment(checkpoint=given("fc3")))
    with pytest.raises(SettingError, match="^checkpoint_new must .*, not fc33; did you mean fc3?"):
        check(experiment(checkpoint=given("fc33")))
    still = replace(experiment().train, epochs=0)
    with pytest.raises(SettingError, match="^train.epochs must be at least 1 to train .*, not 0$"):
        check(experiment(checkpoint=given("fc3"), train=still))
    check(experiment(checkpoint=given(), train=still))


class Odd(nn.Module):
    """One layer that cannot be masked, one that cannot be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.idle, self.out = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.twice(self.twice(self.first(x))).mean((2, 3)))


def odd(shape, classes, /):
    return Odd()


def test_layers_that_cannot_be_handled_are_refused_by_name_with_the_way_out():
    wanted = r"^skip must leave alone idle; layer idle cannot be pruned: the forward pass never"
    with pytest.raises(SettingError, match=wanted):
        check(experiment(model=partial(odd)))
    check(experiment(model=partial(odd), skip=["idle"]))
    wanted = (
        "^skip must leave alone twice; .* cannot be re-solved: one forward pass calls it 2 times"
    )
    with pytest.raises(SettingError, match=wanted):
        check(experiment(model=partial(odd), skip=["idle"], compensation=REFIT))
    check(experiment(model=partial(odd), skip=["idle", "twice"], compensation=REFIT))


def test_a_plug_in_of_ones_own_is_checked_by_what_it_carries_with_the_real_cells():
    seen = {}

    def bound(layers, cells, labels, /, *, least: int) -> None:
        seen.update(layers=layers, cells=cells, labels=labels)
        if least > 3:
            raise SettingError("least", "must be at most 3", least)

    @checked_by(bound)
    def own(model, cells, images, rng, /, *, least: int) -> dict[str, Estimate]:
        raise AssertionError

    check(experiment(criterion=partial(own, least=3)))
    assert list(seen["layers"]) == ["fc1", "fc2", "fc3"] == list(seen["cells"])
    assert isinstance(seen["cells"]["fc2"], Cells) and len(seen["labels"]) == 240
    with pytest.raises(SettingError, match="^criterion.least must be at most 3, not 4"):
        check(experiment(criterion=partial(own, least=4)))


def test_a_granularity_that_a_criterion_cannot_score_is_refused_as_the_experiments_own():
    means = partial(conditional_information, samples_per_class=10, features="means", estimator=GMI)
    with pytest.raises(SettingError, match="^granularity must be blocks: averaged over space"):
        check(experiment(model=SMALL, criterion=means, granularity=SINGLE))
    check(experiment(model=SMALL, criterion=partial(means, features="patches"), granularity=SINGLE))


def few(root, /) -> Splits:
    splits = stripes(root, validation=0)
    few = replace(splits.train, pixels=splits.train.pixels[:3], labels=splits.train.labels[:3])
    return replace(splits, train=few)


def test_the_images_there_are_set_the_bounds():
    from pathlib import Path

    base = {"data": Data(partial(few), Path()), "granularity": KERNELS, "criterion": L1}
    with pytest.raises(SettingError, match="lie between 2 and 3, the training images, not 4"):
        check(replace(experiment(), **base, batch_norm_images=4))
