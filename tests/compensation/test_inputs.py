"""Which network delivers the inputs."""

import pytest
import torch
from networks import residual

from mint_cli.compensation.inputs import check_inputs, walks
from mint_cli.errors import SettingError


def test_dense_inputs_come_from_the_same_walk_and_pruned_ones_from_the_pruned_network(model):
    pruned = residual()
    with torch.no_grad():
        pruned.stem.weight.zero_()
    dense, given = walks(model, pruned, ["inner"], "dense")
    assert given is dense
    dense, given = walks(model, pruned, ["inner"], "pruned")
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        entering = [walk.passage("inner", 0, 1, x).entering for walk in (dense, given)]
    assert dense.model is model and not torch.equal(*entering)


def test_other_inputs_are_refused_by_name():
    for inputs in ("dense", "pruned"):
        check_inputs(inputs)
    with pytest.raises(SettingError, match="^inputs must be one of dense, pruned, not both"):
        check_inputs("both")
