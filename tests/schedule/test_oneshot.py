"""One round."""

from mint_cli.schedule.oneshot import oneshot


def test_the_only_round_asks_for_the_whole_sparsity_or_leaves_it_to_the_allocation():
    assert oneshot(0.8) == [0.8] and oneshot(None) == [None]
