"""Other libraries beside ours."""

from importlib.metadata import PackageNotFoundError

import pytest
import torch
from torch import nn

from benchmarks import peers

DIGITS = (
    "granularity@pruner.granularity=filters",
    "pruner.of=cells",
    "pruner.sparsity=0.5",
    "schedule.train.epochs=1",
    "schedule.retrain.epochs=0",
    "model.hidden=[20,10]",
    "allocation@pruner.allocation=layer_quota",
)


@pytest.mark.parametrize(
    ("found", "told"), [(None, "it is not installed"), ("1.6.0", "version 1.6.0 is here")]
)
def test_without_the_library_or_with_an_old_one_it_says_how_to_install_it(monkeypatch, found, told):
    def version(name):
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(peers, "version", version)
    wanted = f"Torch-Pruning 1.6.1 is needed, {told}: pip install 'mint-cli"
    with pytest.raises(SystemExit, match=wanted):
        peers.torch_pruning()


def test_our_rows_are_made_by_the_stages_and_count_what_is_left_of_the_network(tmp_path):
    settings = [*DIGITS, f"store={tmp_path}"]
    row = peers.ours("L1", [*settings, "pruner=l1"], 0)
    assert row["parameters"] == 64 * 10 + 10 + 10 * 5 + 5 + 5 * 10 + 10
    assert row["macs"] == 64 * 10 + 10 * 5 + 5 * 10
    assert 0 < row["accuracy"] < 1 and row["method"] == "L1"
    assert peers.makers(peers.job([*settings, "pruner=l1"])) == ["fc1", "fc2"]


@pytest.mark.parametrize("method", peers.THEIRS)
def test_the_peer_takes_half_of_what_the_named_layers_make_and_leaves_the_others(method):
    library = pytest.importorskip("torch_pruning")
    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 3), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(96, 10))
    with torch.no_grad():
        model[0].weight[4:] *= 100
        model[2].weight[:, 4:] *= 100
    kept = model[0].weight[4:].clone()
    importance = getattr(library.importance, peers.THEIRS[method])(p=2)
    peers.halve(model, ["0"], torch.zeros(1, 1, 8, 8), importance, library)
    assert model[2].weight.shape == (6, 4, 3, 3) and model[4].weight.shape == (10, 96)
    assert torch.equal(model[0].weight, kept)


def test_a_table_has_a_row_a_method_with_both_accuracies():
    rows = [
        {
            "library": library,
            "method": "L1",
            "batch_norm_images": count,
            "accuracy": accuracy,
            "parameters": 5,
            "macs": 6000,
            "seconds": 1.25,
        }
        for library, pair in {"a": (0.5, 0.75), "b": (0.25, 0.125)}.items()
        for count, accuracy in zip((0, 1000), pair, strict=True)
    ]
    dense = {"accuracy": 0.9, "parameters": 9, "macs": 12000, "images": 360}
    text = peers.markdown(dense, rows, {"python": "3"})
    assert "| a | L1 | 50.00 | 75.00 | 5 | 6,000 | 1.2 |" in text
    assert "| b | L1 | 25.00 | 12.50 | 5 | 6,000 | 1.2 |" in text
    assert "Dense: 90.00 %, 9 parameters, 12,000 MACs" in text and "360 test images" in text
