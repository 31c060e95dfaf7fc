"""The GPU's kernels find what the CPU's do: in Triton's interpreter, and where there is a GPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from trees import ONES, layer

from mint_cli.kernel import tree

INTERPRETED = """
import numpy as np, torch
from mint_cli.kernel import cpu, gpu
from mint_cli.kernel.distance import squares
rng = np.random.default_rng(0)
starts = torch.tensor([0, 5, 6])
for n in (2, 7, 20):
    for drop_zero in (False, True):
        for child in (rng.normal(size=(6, n)), rng.integers(0, 3, (6, n))):
            child = torch.from_numpy(child).float()
            base = torch.from_numpy(rng.integers(0, 5, (2, n, n))).float()
            base = base + base.mT
            given = child.numpy(), starts.numpy(), drop_zero, np.arange(n)
            expected = [cpu.spanning_trees(part.numpy(), *given) for part in base]
            found = gpu.spanning_trees(base, child, starts, drop_zero)
            assert np.array_equal(found.numpy(), expected)
for most in (2, 1000):
    rows, donors = (torch.from_numpy(rng.integers(0, most, (6, n))).double() for n in (9, 12))
    full = squares(rows.T.contiguous(), donors.T.contiguous())
    for once in (False, True):
        given = [x.numpy() for x in (full, rows, donors, starts)]
        found = gpu.nearest_outside(full, rows, donors, starts, once)
        assert np.array_equal(found.numpy(), cpu.nearest_outside(*given, once))
full, outs = squares(rows.T, rows.T), [torch.empty(9, 9), torch.empty(9, 9)]
gpu.joint_part(full, rows[:2], donors[:2, :9].contiguous(), 0.3, 0.7, outs[0])
few = donors[:2, :9].contiguous().numpy()
cpu.joint_part(full.numpy(), rows[:2].numpy(), few, 0.3, 0.7, outs[1].numpy())
assert torch.equal(*outs)
"""


def test_the_gpu_kernels_find_the_same_trees_and_donors_in_tritons_interpreter() -> None:
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
    not (torch.cuda.is_available() and importlib.util.find_spec("triton")),
    reason="needs a GPU and Triton",
)
@pytest.mark.parametrize("n", [30, 700, 2888])
def test_the_gpu_counts_what_the_cpu_counts(n: int) -> None:
    rng = np.random.default_rng(6)
    for real in (False, True):
        arguments = layer(rng, n, real)
        moved = [value.to("cuda") for value in arguments]
        for read, drop_zero in ((tree.cross_edges, False), (tree.columns_against_counter, True)):
            counts = tree.edge_counts(*arguments, ONES, ONES, n // 2, read, drop_zero)
            assert torch.equal(
                tree.edge_counts(*moved, ONES, ONES, n // 2, read, drop_zero), counts
            )
        for once in (False, True):
            parent, starts = arguments[2], arguments[4]
            half = parent[: n // 2], parent[n // 2 :][: n // 2]
            found = tree.nearest_outside(
                *(side.to("cuda") for side in half), starts.to("cuda"), once
            )
            assert torch.equal(found.cpu(), tree.nearest_outside(*half, starts, once))
