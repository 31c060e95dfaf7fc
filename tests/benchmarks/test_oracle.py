"""The oracle's speed beside whole passes."""

import json

import torch
from torch import nn

from benchmarks import oracle


def small(shape, classes):
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 9, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(9, classes))


def test_it_writes_seconds_a_map_both_ways_and_how_far_the_losses_are_apart(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(oracle.MODELS, "vgg16", small)
    threads = torch.get_num_threads()
    oracle.main(["--images", "4", "--out", str(tmp_path)])
    torch.set_num_threads(threads)
    found = json.loads((tmp_path / "speed.json").read_text())
    assert found["maps"] == 17 and [row["site"] for row in found["sites"]] == ["0", "2"]
    assert found["largest_difference"] < 1e-5 and found["times_faster"] > 0
    assert all(row["ours"] > 0 and row["whole"] > 0 for row in found["sites"])
    assert "times faster" in capsys.readouterr().out
