"""Clusters of scores: exact, one head each, as many as the sparsity asks for."""

from functools import partial
from itertools import combinations

import pytest
import torch

from mint_cli.allocation.clusters import clusters, partitions, within
from mint_cli.errors import SettingError, Unreachable
from mint_cli.experiment import decides


def chosen(scores, wanted=None, number=None, head="first", together=False, sizes=None):
    scores = {s: torch.tensor(own, dtype=torch.float64) for s, own in scores.items()}
    sizes = sizes or {s: torch.ones(own.shape, dtype=torch.int64) for s, own in scores.items()}
    found = clusters(scores, sizes, wanted, number=number, head=head, together=together)
    return {s: own.tolist() for s, own in found.items()}


def spread(values, bounds):
    ends = [*bounds[1:], len(values)]
    parts = [values[a:b] for a, b in zip(bounds, ends, strict=True)]
    return sum(float((part - part.mean()).square().sum()) for part in parts)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("far", [0.0, 1e6])
def test_no_other_cut_of_the_sorted_scores_has_less_spread(seed, far):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(8, generator=generator, dtype=torch.float64).sort().values + far
    for k, bounds in enumerate(partitions(values), 1):
        every = [(0, *cut) for cut in combinations(range(1, 8), k - 1)]
        least = min(spread(values, list(cut)) for cut in every)
        assert len(bounds) == k and spread(values, bounds) == pytest.approx(least, abs=1e-9)


def test_spread_of_every_run_is_that_of_its_values():
    values = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.float64)
    cost = within(values)
    assert cost[0, 2] == pytest.approx(float(values[:3].var() * 2)) and cost[2, 2] == 0
    assert cost[3, 0] == torch.inf


SCORES = [5.0, 1.0, 1.1, 5.2, 9.0, 0.9]


@pytest.mark.parametrize(
    ("head", "kept"),
    [("first", [0, 1, 4]), ("best", [2, 3, 4])],
)
def test_of_every_cluster_its_first_or_best_cell_stays(head, kept):
    found = chosen({"units": SCORES}, number=3, head=head)["units"]
    assert [i for i, stay in enumerate(found) if stay] == kept


@pytest.mark.parametrize("wanted", range(6))
def test_as_many_clusters_stay_as_cells_are_to_stay(wanted):
    assert sum(chosen({"units": SCORES}, wanted)["units"]) == 6 - wanted


def test_more_than_all_but_one_cell_cannot_go():
    with pytest.raises(Unreachable) as told:
        chosen({"one": SCORES, "two": [1.0]}, 6)
    assert told.value.most == 5


def test_every_site_has_clusters_of_its_own_unless_all_are_clustered_together():
    scores = {"one": [1.0, 1.1, 1.2, 1.3], "two": [7.0, 7.0]}
    apart = chosen(scores, number=2)
    assert (sum(apart["one"]), sum(apart["two"])) == (2, 2)
    both = chosen(scores, number=2, together=True)
    assert both == {"one": [True, False, False, False], "two": [True, False]}
    assert [sum(own) for own in chosen(scores, 3).values()] == [2, 1]


def test_what_is_gone_stays_so_and_takes_no_part():
    scores = [-float("inf"), 1.0, 1.1, 5.0]
    assert chosen({"units": scores}, number=2)["units"] == [False, True, False, True]
    assert chosen({"units": scores}, 2)["units"] == [False, True, False, True]
    assert chosen({"units": scores}, number=4)["units"] == [False, True, True, True]
    assert chosen({"units": [-float("inf")] * 2 + [1.0]}, number=3)["units"] == [False, False, True]


def test_cells_of_many_weights_go_as_far_as_they_fit():
    sizes = {"units": torch.tensor([10, 1, 1, 10, 10, 1])}
    found = chosen({"units": SCORES}, 5, sizes=sizes)["units"]
    assert int(sizes["units"][~torch.tensor(found)].sum()) <= 5 and not all(found)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"number": 0}, "number must lie between 1 and 6"),
        ({"number": 7}, "number must lie between 1 and 6, the cells of a site, not 7"),
        ({"number": 2, "head": "last"}, "head must be one of first, best"),
        ({}, "sparsity must be a number"),
    ],
)
def test_settings_out_of_their_bounds_are_refused(settings, told):
    with pytest.raises(SettingError, match=f"^{told}"):
        chosen({"units": SCORES}, **settings)


def test_a_number_of_clusters_decides_how_much_goes_and_none_does_not():
    settings = {"head": "first", "together": False}
    assert decides(partial(clusters, number=3, **settings)) is True
    assert decides(partial(clusters, number=None, **settings)) is False


def test_so_many_cells_that_clustering_would_not_end_are_refused():
    with pytest.raises(
        SettingError, match="^number is of clusters of at most 4096 cells.*has 4097"
    ):
        chosen({"fc1": [0.0] * 4097}, 5)
