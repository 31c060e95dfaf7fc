"""How much is to go: what everything counts, exact amounts, and channels that share weights."""

from functools import partial

import pytest
import torch
from experiments import CAPPED, SMALL, network, sites

from mint_cli.allocation.layer_quota import layer_quota
from mint_cli.errors import SettingError
from mint_cli.granularity.filters import filters
from mint_cli.network import cost
from mint_cli.network.surgery import shrink
from mint_cli.stage.budget import Budget, Search

CHANNELS = partial(filters, residual=True)


@pytest.fixture
def mlp():
    own = sites(skip=["fc1"])
    return own.cells(network()), own.ledger(network())


@pytest.fixture
def coupled():
    own = sites(CHANNELS)
    return own.cells(network(SMALL)), own.ledger(network(SMALL))


def scores_of(cells, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        s: torch.rand(own.shape, generator=generator, dtype=torch.float64)
        for s, own in cells.items()
    }


@pytest.mark.parametrize("value", [-0.1, 1.0, 1.5])
def test_a_sparsity_outside_zero_and_one_is_refused(value):
    with pytest.raises(SettingError, match=rf"^sparsity must lie in \[0, 1\), not {value}"):
        Budget(value, "prunable")


def test_a_unit_that_is_none_is_refused():
    with pytest.raises(
        SettingError, match="^of must be one of prunable, all, cells, parameters, macs, not bytes"
    ):
        Budget(0.5, "bytes")


def test_shares_are_of_the_prunable_weights_of_all_weights_or_of_the_cells(mlp):
    cells, ledger = mlp
    assert ledger.whole(cells, "prunable") == 230 and ledger.whole(cells, "all") == 950
    assert ledger.whole(cells, "cells") == 230
    assert ledger.whole(cells, "parameters") == 950 + 33


@pytest.mark.parametrize(
    ("of", "share", "gone"), [("prunable", 0.5, 115), ("all", 0.2, 190), ("cells", 0.1, 23)]
)
def test_parts_of_layers_add_up_to_exactly_what_was_asked(mlp, of, share, gone):
    cells, ledger = mlp
    kept = Budget(share, of).allocate(CAPPED, scores_of(cells), cells, ledger)
    assert sum(int((~own).sum()) for own in kept.values()) == gone
    assert ledger.removed(cells, kept, of) == gone


def test_more_than_can_go_is_refused_with_the_largest_share_cut_and_not_rounded(mlp):
    cells, ledger = mlp
    wanted = r"^sparsity can be at most 0.2400 of all weights with these layers and caps, not 0.5"
    with pytest.raises(SettingError, match=wanted):  # 228 of 950: a cell of each layer stays
        Budget(0.5, "all").allocate(CAPPED, scores_of(cells), cells, ledger)
    Budget(0.24, "all").allocate(CAPPED, scores_of(cells), cells, ledger)
    with pytest.raises(SettingError, match="can be at most 0.7086 of the prunable weights"):
        capped = partial(CAPPED, caps={"fc2": 0.67})  # 163 of 230
        Budget(0.9, "prunable").allocate(capped, scores_of(cells), cells, ledger)


def test_parameters_and_operations_are_asked_of_whole_channels_only(mlp):
    cells, ledger = mlp
    with pytest.raises(
        SettingError,
        match="^of must be prunable, all or cells where no whole channel goes, not macs",
    ):
        Budget(0.5, "macs").allocate(CAPPED, scores_of(cells), cells, ledger)


def test_without_a_share_the_allocation_is_asked_for_nothing(mlp):
    cells, ledger = mlp
    asked = []

    def deciding(scores, sizes, wanted, /):
        asked.append(wanted)
        return {site: score > 0.5 for site, score in scores.items()}

    kept = Budget(None, "prunable").allocate(partial(deciding), scores_of(cells), cells, ledger)
    assert asked == [None] and all(
        torch.equal(kept[s], score > 0.5) for s, score in scores_of(cells).items()
    )


def test_what_an_allocation_finds_wrong_is_told_as_its_own(mlp):
    cells, ledger = mlp
    with pytest.raises(SettingError, match=r"^allocation.cap must lie in \[0, 1\], not 2.0"):
        Budget(0.5, "prunable").allocate(partial(CAPPED, cap=2.0), scores_of(cells), cells, ledger)


def test_operations_of_a_cell_are_its_weights_times_the_positions_they_work_at(mlp, coupled):
    cells, ledger = mlp
    assert (ledger.each(cells, "macs")["fc2"] == 1).all()
    cells, ledger = coupled
    each = ledger.each(cells, "macs")
    # at 36 pixels: rows of the stem (9), rows of the outer and columns of the inner convolution; 3
    # logits
    assert each["stem"].tolist() == [36 * (9 + 54 + 54) + 3] * 6
    assert each["inner"].tolist() == [36 * (54 + 54)] * 6
    assert ledger.whole(cells, "macs") == 36 * (6 * 9 + 2 * 36 * 9) + 18


@pytest.mark.parametrize("of", ["prunable", "all", "parameters", "macs"])
@pytest.mark.parametrize(
    "allocation", [CAPPED, partial(layer_quota)], ids=["one quota", "layer quotas"]
)
def test_of_whole_channels_the_smallest_choice_goes_that_gives_the_share(coupled, of, allocation):
    cells, ledger = coupled
    scores = scores_of(cells)
    every = sum(int(own.sum()) for own in ledger.each(cells, of).values())
    for share in (0.2, 0.5, 0.7):
        kept = Budget(share, of).allocate(allocation, scores, cells, ledger)
        wanted, search = (
            round(share * ledger.whole(cells, of)),
            Search(allocation, scores, cells, ledger, of),
        )
        removed = ledger.removed(cells, kept, of)
        amounts = range(0, every, max(1, every // 200))
        fewer = [search.removed(search.at(a)) for a in amounts if a < every * 0.8]
        assert removed == min(found for found in fewer if found >= wanted)


def test_what_has_gone_of_whole_channels_is_what_the_smaller_network_lacks(coupled):
    cells, ledger = coupled
    kept = {
        "stem": torch.tensor([True, False, True, True, False, True]),
        "inner": torch.tensor([True, True, True, False, True, True]),
    }
    model, pixels = network(SMALL).build(), network(SMALL).pixels
    small = shrink(model, cells, kept)
    lacking = cost.parameters(model) - cost.parameters(small)
    assert ledger.removed(cells, kept, "parameters") == lacking
    assert ledger.removed(cells, kept, "macs") == cost.macs(model, pixels) - cost.macs(
        small, pixels
    )
    assert ledger.removed(cells, kept, "cells") == 3


def test_more_than_all_channels_but_one_is_refused(coupled):
    cells, ledger = coupled
    with pytest.raises(SettingError, match=r"^sparsity can be at most 0\.\d{4} of the macs"):
        Budget(0.99, "macs").allocate(CAPPED, scores_of(cells), cells, ledger)


def test_losses_a_weight_become_losses_a_unit_of_the_budget(coupled):
    cells, ledger = coupled
    level = {site: torch.full(own.shape, 2.0) for site, own in cells.items()}
    found = Budget(0.5, "macs").by_unit(level, cells, ledger)
    # weights of a stem channel: 9 make it, 54 of each convolution and 3 logits; at 36 pixels but
    # these
    assert found["stem"].tolist() == pytest.approx([2 * (9 + 54 + 54 + 3) / (36 * 117 + 3)] * 6)
    assert found["inner"].tolist() == pytest.approx([2 / 36] * 6)
    assert Budget(0.5, "cells").by_unit(level, cells, ledger)["inner"].tolist() == [2 * 108] * 6
    for of in ("prunable", "all"):
        same = Budget(0.5, of).by_unit(level, cells, ledger)
        assert all(torch.equal(same[site].float(), own) for site, own in level.items())
