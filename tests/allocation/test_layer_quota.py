import pytest
import torch

from mint_cli.allocation.layer_quota import layer_quota
from mint_cli.errors import SettingError


def test_every_layer_loses_the_same_share_to_the_nearest_cell():
    scores = {"a": torch.rand(10, 10), "b": torch.rand(8, 16)}
    masks = layer_quota(scores, {"a": 100, "b": 128 * 9}, sparsity=0.3, of="prunable")
    assert int((~masks["a"]).sum()) == 30 and int((~masks["b"]).sum()) == round(0.3 * 128)
    assert scores["a"][~masks["a"]].max() <= scores["a"][masks["a"]].min()


def test_all_weights_as_denominator_raises_the_share_of_the_prunable_layers():
    masks = layer_quota({"a": torch.rand(10, 10)}, {"a": 100, "fixed": 25}, sparsity=0.4, of="all")
    assert int((~masks["a"]).sum()) == 50
    with pytest.raises(SettingError, match=r"0\.8000"):
        layer_quota({"a": torch.rand(10, 10)}, {"a": 100, "fixed": 25}, sparsity=0.9, of="all")
