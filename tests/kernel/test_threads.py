"""Compiled loops and torch agree on their number of threads."""

import numba
import torch

from mint_cli.kernel import threads


def test_a_compiled_loop_leaves_torch_its_number_of_threads():
    before = torch.get_num_threads()
    with threads.as_many_as_torch():
        assert numba.get_num_threads() == min(before, numba.config.NUMBA_NUM_THREADS)
        torch.set_num_threads(before + 1)  # as numba's first loop does
    assert torch.get_num_threads() == before
