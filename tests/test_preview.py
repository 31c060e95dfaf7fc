"""What could go and would go of a network, said without anything going."""

from functools import partial

import pytest
from experiments import CAPPED, KERNELS, SMALL, experiment

from mint_cli.allocation.layer_quota import layer_quota
from mint_cli.errors import SettingError
from mint_cli.granularity.filters import filters
from mint_cli.preview import preview, some


def previewed(residual=False, **changed):
    granularity = partial(filters, residual=residual)
    settings = {"model": SMALL, "granularity": granularity, "of": "cells", "allocation": CAPPED}
    return preview(experiment(**settings | changed)).splitlines()


def test_sets_of_channels_are_named_with_who_makes_and_reads_them():
    lines = previewed()
    assert lines[0] == "6 channels in 1 sets can go"
    assert lines[3].split() == ["inner", "6", "3", "inner", "outer"]
    lines = previewed(residual=True)
    assert lines[0] == "12 channels in 2 sets can go"
    assert lines[3].split() == ["stem", "6", lines[3].split()[2], "stem,", "outer", "inner,", "out"]


def test_what_stays_is_said_with_the_reason():
    lines = previewed()
    added = "its channels are added to those of others (granularity.residual)"
    assert f"  stem, outer: {added}" in lines
    assert "  out: its channels are the network's outputs" in lines
    assert not any("added" in line for line in previewed(residual=True))


def test_the_budget_is_said_in_every_unit():
    lines = previewed()
    assert "channels: 0.5000 of 6 would go, asked 0.5" in lines
    gone, whole = 3 * 2 * 36 * 9 * 6 // 6, 6 * 36 * (9 + 2 * 54) + 18
    assert f"multiply-accumulates: {gone * 6 / whole:.4f} of {whole:,} would go" in lines


def test_whether_numbers_are_exact_is_said():
    assert any("l1 will share out otherwise" in line for line in previewed())
    exact = previewed(residual=True, allocation=partial(layer_quota))
    assert any("these numbers are exact" in line for line in exact)
    assert not any("otherwise" in line for line in exact)
    assert [line.split()[2] for line in exact[3:5]] == ["3", "3"]


def test_blocks_have_no_dry_run():
    with pytest.raises(SettingError, match="granularity must be filters"):
        previewed(granularity=KERNELS)


def test_an_unreachable_budget_is_refused():
    with pytest.raises(SettingError, match="can be at most"):
        previewed(sparsity=0.99, of="macs")


def test_long_lists_are_cut():
    assert some("abc") == "a, b, c" and some("abcde") == "a, b, c and 2 more"
