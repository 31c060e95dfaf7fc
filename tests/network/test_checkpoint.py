"""Checkpoints from elsewhere: what fits, what is refused, and that nothing in them runs."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.datasets import CIFAR10

from mint_cli.network import checkpoint
from mint_cli.data import images as im
from mint_cli.model.resnet56 import resnet56
from mint_cli.model.vgg16 import vgg16
from mint_cli.network.layers import normalise_inputs
from mint_cli.errors import SettingError
from mint_cli.protocol import Images

SHARED = Path(__file__).parent.parent / "../shared/data"


@pytest.fixture
def cifar10_test() -> Images:
    for root in (os.environ.get("MINT_DATA", ""), "data"):
        if root and (Path(root) / "cifar-10-batches-py" / "test_batch").exists():
            test = CIFAR10(root, train=False)
            return Images(torch.from_numpy(test.data).permute(0, 3, 1, 2), torch.tensor(test.targets))
    pytest.skip("the CIFAR-10 files are not here (MINT_DATA)")


def network() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    return normalise_inputs(model, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).eval()


def renamed(state):
    names = {"0": "features.0", "1": "features.1", "3": "classifier"}
    kept = {key: value for key, value in state.items() if key[0] in names and not key.endswith("tracked")}
    return {f"module.{names[key[0]]}.{key[2:]}": value for key, value in kept.items()}


def test_a_file_with_other_names_prefixes_and_halves_gives_the_same_network(tmp_path):
    theirs, ours = network(), network()
    for value in theirs.state_dict().values():
        value.copy_(value.half())
    state = {key: value.half() for key, value in renamed(theirs.state_dict()).items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "file.pth")
    checkpoint.fit_to(ours, checkpoint.load(tmp_path / "file.pth"), "file.pth")
    x = torch.rand(2, 3, 4, 4)
    assert torch.equal(ours(x), theirs(x))


def test_a_safetensors_file_with_the_same_names_in_any_order_gives_the_same_network(tmp_path):
    theirs, ours = network(), network()
    save_file({f"module.{key}": value for key, value in reversed(theirs.state_dict().items())}, tmp_path / "file.safetensors")
    checkpoint.fit_to(ours, checkpoint.load(tmp_path / "file.safetensors"), "file.safetensors")
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in theirs.state_dict().items())


def test_our_own_state_comes_back_with_its_input_normalisation(tmp_path):
    theirs, ours = network(), network()
    normalise_inputs(theirs, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    torch.save(theirs.state_dict(), tmp_path / "own.pt")
    checkpoint.fit_to(ours, checkpoint.load(tmp_path / "own.pt"), "own.pt")
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in theirs.state_dict().items())


def test_another_architecture_is_refused_with_the_first_key_and_both_shapes():
    state = renamed(network().state_dict()) | {"module.classifier.weight": torch.zeros(5, 16)}
    with pytest.raises(SettingError, match=r"3\.weight \(2, 16\) but the file has module\.classifier\.weight \(5, 16\)"):
        checkpoint.fit_to(network(), state, "other.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_by_key(value):
    state = network().state_dict()
    state["3.bias"][1] = value
    with pytest.raises(SettingError, match=r"other\.pth holds numbers that are not finite in 3\.bias"):
        checkpoint.fit_to(network(), state, "other.pth")


def test_a_normalisation_for_other_images_is_refused():
    state = network().state_dict() | {"input_mean": torch.zeros(1, 1, 1, 1)}
    with pytest.raises(SettingError, match="is for images of 1 channels, not 3"):
        checkpoint.fit_to(network(), state, "other.pth")


def test_a_file_that_ends_early_in_order_is_refused():
    state = renamed(network().state_dict())
    state.pop("module.classifier.bias")
    with pytest.raises(SettingError, match=r"3\.bias \(2,\) but the file ends"):
        checkpoint.fit_to(network(), state, "other.pth")


class Code:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_code_in_a_file_is_refused_and_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"weight": Code()}}, "evil.pth")
    with pytest.raises(SettingError, match="nothing in it was executed"):
        checkpoint.load("evil.pth")
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", ["whole.pth", "whole.safetensors"])
def test_truncated_and_missing_files_are_refused(tmp_path, name):
    path, state = tmp_path / name, {"weight": torch.zeros(1000)}
    with pytest.raises(SettingError, match="readable file"):
        checkpoint.load(path)
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(SettingError, match=f"{name} is not"):
        checkpoint.load(path)


@pytest.mark.parametrize("held", [{}, {"epoch": 3}, torch.zeros(3), {"state_dict": {"weight": [1, 2]}}])
def test_a_file_without_named_tensors_is_refused(tmp_path, held):
    torch.save(held, tmp_path / "odd.pth")
    with pytest.raises(SettingError, match="plain tensors"):
        checkpoint.load(tmp_path / "odd.pth")


@pytest.mark.parametrize("model, file, least", [(resnet56, "resnet56-4bfd9763.th", 92.0), (vgg16, "vgg16_bn_cifar10_fp16.pth", 90.5)])
def test_public_files_bring_their_normalisation_and_their_accuracy(cifar10_test, model, file, least):
    path = SHARED / "weights" / file
    if not path.exists():
        pytest.skip("the public checkpoints are not here")
    network = normalise_inputs(model((3, 32, 32), 10), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).eval()
    checkpoint.fit_to(network, checkpoint.load(path), file)
    assert network.input_mean.max() > 0.4
    index = torch.arange(500)
    with torch.no_grad():
        right = (network(im.plain(cifar10_test, index)).argmax(1) == cifar10_test.labels[index]).double().mean()
    assert 100 * right >= least


def test_the_trained_network_of_a_store_is_a_checkpoint_too(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    tensors = {f"state/{k}": v for k, v in model.state_dict().items()} | {"mask/0": torch.ones(2, 3, dtype=torch.bool)}
    save_file(tensors, tmp_path / "tensors.safetensors")
    other = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    checkpoint.fit_to(other, checkpoint.load(tmp_path / "tensors.safetensors"), "tensors")
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())
