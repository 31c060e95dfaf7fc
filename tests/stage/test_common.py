"""What stages start from: data known by their content, networks by their seed, streams of their
own.
"""

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from experiments import MLP, data, network, sites, stripes

from mint_cli.errors import SettingError
from mint_cli.protocol import Splits
from mint_cli.stage.common import Data, part, prefixed, stream
from mint_cli.store import Artifact, describe


def test_every_seed_has_initial_weights_of_its_own_and_the_same_each_time():
    def first(seed: int) -> torch.Tensor:
        return network(seed=seed).build().fc1.weight

    assert torch.equal(first(0), first(0))
    assert all(not torch.equal(first(0), first(seed)) for seed in (1, 2, 7))


def test_building_leaves_the_global_generator_alone_and_gives_an_evaluated_network():
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    built = network().build()
    assert torch.equal(torch.rand(2), wanted) and not built.training
    assert float(built.input_mean) == 0.5 and float(built.input_std) == 0.25


def test_a_state_replaces_the_initial_weights():
    state = network(seed=1).build().state_dict()
    built = network(seed=0).build(state)
    assert all(torch.equal(value, built.state_dict()[name]) for name, value in state.items())
    assert network().pixels == (1, 6, 6)


def changed(root: Path, /, *, what: str) -> Splits:
    splits = stripes(root, validation=0)
    images = splits.train
    if what == "label":
        labels = images.labels.clone()
        labels[:2] = labels[:2].flip(0)
        images = replace(images, labels=labels)
    elif what == "pixel":
        pixels = images.pixels.clone()
        pixels[0, 0, 0, 0] += 1
        images = replace(images, pixels=pixels)
    elif what == "fewer":
        images = replace(images, pixels=images.pixels[1:], labels=images.labels[1:])
    return replace(splits, train=images)


def test_data_are_known_by_what_they_hold_and_not_by_their_folder():
    def described(what, folder="."):
        return describe(Data(partial(changed, what=what), Path(folder)))

    def content(what):
        return Data(partial(changed, what=what), Path()).content

    assert described("nothing") == described("nothing", "elsewhere")
    contents = [content(what) for what in ("nothing", "label", "pixel", "fewer")]
    assert len(set(contents)) == 4
    assert all(
        one in str(described(what))
        for what, one in zip(("nothing", "label"), contents, strict=False)
    )


def test_data_are_read_once():
    read = []

    def counted(root, /):
        read.append(root)
        return stripes(root, validation=0)

    own = Data(partial(counted), Path("x"))
    assert own.splits is own.splits and own.content == own.content and read == [Path("x")]
    assert own.content == data().content


def test_the_pruned_layers_are_all_but_the_skipped_ones_cut_into_cells():
    assert list(sites().layers(network())) == ["fc1", "fc2", "fc3"]
    chosen = sites(skip=["fc1", "fc3"])
    cells = chosen.cells(network())
    assert list(cells) == ["fc2"] and cells["fc2"].shape == (10, 20)
    with pytest.raises(SettingError, match="^skip must name layers"):
        sites(skip=["conv"]).layers(network())


def test_a_ledger_knows_all_weights_parameters_and_layers_also_of_what_is_skipped():
    ledger = sites(skip=["fc1", "fc3"]).ledger(network())
    assert ledger.weights == {"fc1.weight": 720, "fc2.weight": 200, "fc3.weight": 30}
    assert list(ledger.layers) == ["fc1", "fc2", "fc3"] and "fc1.bias" in ledger.parameters


STAGES = ("initialise", "train", "score", "prune", "retrain")


def test_every_stage_seed_and_round_has_a_stream_of_its_own():
    streams = [stream(seed, name, r) for seed in (0, 1, 2) for name in STAGES for r in (1, 2, 3, 4)]
    drawn = {int(np.random.default_rng(own).integers(2**62)) for own in streams}
    assert len(drawn) == len(streams) == 60


def test_the_first_rounds_stream_is_the_seed_and_the_stages_name_as_it_always_was():
    for name in STAGES:
        own = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        assert stream(7, name) == stream(7, name, 1) == [7, own]
        assert stream(7, name, 2) == [7, own, 2]


def test_parts_of_an_artifact_come_back_without_their_prefix():
    tensors = prefixed("state", {"a.weight": torch.ones(1)}) | prefixed(
        "mask", {"a": torch.zeros(1)}
    )
    found = Artifact(tensors, {}, 0.0)
    assert set(tensors) == {"state/a.weight", "mask/a"}
    assert list(part("state", found)) == ["a.weight"] and list(part("mask", found)) == ["a"]
    assert MLP.keywords["hidden"] == [20, 10]
