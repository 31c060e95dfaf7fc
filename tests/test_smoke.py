"""The CIFAR-10 path, on a small subset of the real files."""

import json

import pytest
from commandline import cifar10_root, mint_run


@pytest.mark.parametrize("model", ["resnet56", "vgg16"])
def test_the_cifar10_path_trains_scores_prunes_and_retrains_to_the_sparsity_within_a_block(
    tmp_path, model
):
    result = mint_run(
        tmp_path, "experiment=cifar10_smoke", f"model={model}", f"data={cifar10_root()}"
    )
    assert result.returncode == 0, result.stderr
    (record,) = [json.loads(p.read_text()) for p in tmp_path.rglob("record.json")]
    asked = {"resnet56": 0.5701, "vgg16": 0.8346}[model]
    block = {"resnet56": 8 * 8 * 9, "vgg16": 64 * 64 * 9}[model]  # the largest: 8 groups a side
    assert 0 <= asked - record["sparsity"]["of_all_weights"] < block / record["weights"]["all"]
    assert record["weights"]["all"] == {"resnet56": 848_944, "vgg16": 14_977_728}[model]


def test_a_sparsity_that_the_caps_cannot_reach_is_refused_before_any_training(tmp_path):
    result = mint_run(
        tmp_path, "experiment=cifar10_smoke", "pruner.cap=0.5", f"data={cifar10_root()}"
    )
    assert (
        result.returncode == 1
        and "at most 0.46" in result.stderr
        and not list(tmp_path.rglob("*.safetensors"))
    )
