"""The tracked tables are what ``mint-table`` makes of the tracked records."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "outputs" / "benchmarks"

COSTS = (
    "sparsity.total,sparsity.of_all_weights,accuracy.dense,accuracy.pruned,accuracy.retrained,"
    "agreement,seconds.score"
)
RECOVERY = (
    "--sort pruner.sparsity --columns pruner.sparsity,pruner,pruner.allocation,"
    "pruner.compensation,schedule.retrain.epochs,accuracy.dense,accuracy.pruned,accuracy.retrained"
)
RATE = "--columns schedule.retrain.learning_rate,accuracy.dense,accuracy.pruned,accuracy.retrained"
CALIBRATION = "pruner,pruner.calibration.images,pruner.calibration.positions"
ABLATION = "pruner.groups,pruner.samples_per_class"
TABLES = {
    "mnist_mlp/fc2": "--published",
    "mnist_mlp/whole": "",
    "mnist_mlp/groups": f"--columns pruner.groups,{COSTS}",
    "mnist_mlp/samples": f"--columns pruner.samples_per_class,{COSTS}",
    "cifar10_resnet56/recovery": RECOVERY,
    "cifar10_vgg16/recovery": RECOVERY,
    "cifar10_resnet56/rate": RATE,
    "cifar10_vgg16/rate": RATE,
    "cifar10_resnet56/calibration": f"--sort {CALIBRATION} --columns {CALIBRATION},"
    "validation_accuracy.pruned,accuracy.dense,accuracy.pruned",
    "cifar10_vgg16/ablation": f"--sort {ABLATION} --columns {ABLATION},sparsity.of_all_weights,"
    "agreement,accuracy.dense,accuracy.pruned",
}


@pytest.mark.parametrize("name", TABLES)
def test_a_tracked_table_is_what_its_records_say(shown, name):
    tracked = (BENCHMARKS / f"{name}.md").read_text()
    assert tracked == shown(BENCHMARKS / name, *TABLES[name].split())


def test_every_tracked_record_is_read_without_a_warning(warned):
    out, warnings = warned(BENCHMARKS, "--columns", "dataset,model")
    assert warnings == [] and "digits" not in out
