"""What every estimator must do: one table of all of them, with the settings of their YAML."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mint_cli.errors import DataError, SettingError


def load(config: Path) -> tuple[Callable, dict]:
    """The function and settings of a YAML."""
    settings = yaml.safe_load(config.read_text())
    module, name = settings.pop("_target_").rsplit(".", 1)
    assert settings.pop("_partial_") is True
    return getattr(importlib.import_module(module), name), settings


CONFIGS = sorted((Path(__file__).parents[2] / "conf" / "estimator").glob("*.yaml"))
CONFIGS = [
    c for c in CONFIGS if not getattr(load(c)[0], "of_classes", False)
]  # test_mixture has those
CHILD_GROUPS, PARENT_GROUPS = torch.tensor([1, 0, 1, 2]), torch.tensor([0, 2, 1, 0, 2])


@pytest.fixture(params=CONFIGS, ids=lambda config: config.stem)
def plugin(request) -> tuple[Callable, dict]:
    return load(request.param)


def activations(n: int = 120) -> tuple[torch.Tensor, torch.Tensor]:
    """Four children of five parents, the first child close to the parents of group 0."""
    rng = np.random.default_rng(0)
    parent = rng.normal(size=(n, 5))
    child = rng.normal(size=(n, 4))
    child[:, 1] = parent[:, 0] - parent[:, 3] + 0.1 * child[:, 1]
    return torch.from_numpy(child).float(), torch.from_numpy(parent).float()


def estimate(
    plugin, child, parent, child_groups=CHILD_GROUPS, parent_groups=PARENT_GROUPS, seed=0, **changes
):
    """One call with a stream of its own."""
    function, settings = plugin
    return function(
        child,
        parent,
        child_groups,
        parent_groups,
        np.random.default_rng(seed),
        **settings | changes,
    )


def test_settings_stand_in_the_yaml_alone(plugin) -> None:
    function, settings = plugin
    keywords = [
        p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY
    ]
    assert {p.name for p in keywords} == set(settings) and all(
        p.default is p.empty for p in keywords
    )


def test_scores_and_halves_are_finite_tables_of_child_by_parent_groups(plugin) -> None:
    result = estimate(plugin, *activations())
    for table in (result.score, *(result.halves or ())):
        assert table.shape == (3, 3) and table.dtype == torch.float64 and table.isfinite().all()


def test_the_same_stream_gives_the_same_scores(plugin) -> None:
    first, second = (estimate(plugin, *activations()) for _ in range(2))
    assert torch.equal(first.score, second.score)


def test_dead_groups_score_exactly_zero_and_dead_channels_give_no_nan(plugin) -> None:
    child, parent = activations()
    child[:, [0, 2]] = 3.7  # group 1, all of it
    parent[:, [1, 4]] = -1e9  # group 2, all of it
    parent[:, 3] = 0.1  # a part of group 0
    result = estimate(plugin, child, parent)
    for table in (result.score, *(result.halves or ())):
        assert table.isfinite().all() and not table[1].any() and not table[:, 2].any()
    assert result.score[0, 0] != 0


def test_a_channel_that_lives_in_one_sample_gives_no_nan(plugin) -> None:
    child, parent = activations()
    child[1:, 3], parent[1:, 2] = 0, 0
    result = estimate(plugin, child, parent)
    assert all(table.isfinite().all() for table in (result.score, *(result.halves or ())))


def test_all_samples_alike_score_zero(plugin) -> None:
    child, parent = activations()
    result = estimate(plugin, child[:1].expand(60, -1), parent[:1].expand(60, -1))
    assert not result.score.any()


def test_many_duplicate_samples_give_finite_scores(plugin) -> None:
    child, parent = (torch.cat([side[:10]] * 12).relu() for side in activations())
    result = estimate(plugin, child, parent)
    assert all(table.isfinite().all() for table in (result.score, *(result.halves or ())))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_are_refused_with_side_and_group(plugin, value: float) -> None:
    child, parent = activations()
    child[5, 3] = value
    with pytest.raises(DataError, match="child group 2 holds NaN or infinite"):
        estimate(plugin, child, parent)
    child, parent = activations()
    parent[7, 2] = value
    with pytest.raises(DataError, match="parent group 1 holds NaN or infinite"):
        estimate(plugin, child, parent)


def test_too_few_and_unpaired_samples_are_refused(plugin) -> None:
    child, parent = activations()
    with pytest.raises(SettingError, match=r"samples must be at least \d+ .*, not 3"):
        estimate(plugin, child[:3], parent[:3])
    with pytest.raises(DataError, match="120 and 119 rows"):
        estimate(plugin, child, parent[:-1])


def test_empty_groups_are_refused_by_number(plugin) -> None:
    with pytest.raises(DataError, match="child group 1 has no channels"):
        estimate(plugin, *activations(), child_groups=torch.tensor([0, 0, 2, 2]))
    with pytest.raises(DataError, match="parent group 0 has no channels"):
        estimate(plugin, *activations(), parent_groups=torch.tensor([1, 2, 1, 1, 2]))


def test_the_least_number_of_samples_is_enough(plugin) -> None:
    child, parent = activations()
    with pytest.raises(SettingError) as refusal:
        estimate(plugin, child[:1], parent[:1])
    least = int(str(refusal.value).split("at least ")[1].split()[0])
    assert estimate(plugin, child[:least], parent[:least]).score.isfinite().all()


def test_numbering_channels_and_groups_otherwise_only_reorders_the_table(plugin) -> None:
    child, parent = activations()
    order, names = torch.tensor([3, 0, 4, 2, 1]), torch.tensor([2, 0, 1])
    renamed = estimate(plugin, child, parent[:, order], parent_groups=names[PARENT_GROUPS[order]])
    assert torch.allclose(renamed.score[:, names], estimate(plugin, child, parent).score, atol=1e-6)


def test_one_child_group_alone_scores_as_among_others(plugin) -> None:
    child, parent = activations()
    alone = estimate(plugin, child[:, CHILD_GROUPS == 1], parent, child_groups=torch.tensor([0, 0]))
    assert torch.allclose(alone.score[0], estimate(plugin, child, parent).score[1], atol=1e-6)
