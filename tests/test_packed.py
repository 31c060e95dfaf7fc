"""Packed files: bit for bit, in proportion to what is kept, and no edited one does anything."""

import json
import math
import os
import subprocess
import sys

import branches
import pytest
import torch
from channels import PIXELS, Net, conv, filter_cells, pooled, some
from networks import resnet56, seeded
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import mint_cli
from mint_cli.errors import DataError
from mint_cli.model.mlp import mlp
from mint_cli.network.layers import normalise_inputs
from mint_cli.network.surgery import drop, indices, narrow
from mint_cli.network.units import find, modules_of
from mint_cli.packed import load, mask_of, pack

GREY = (1, 8, 8)
ABOUT = {
    "model": "mint_cli.model.mlp.mlp",
    "settings": {"hidden": [40, 20], "dropout": 0.0},
    "shape": GREY,
    "classes": 10,
}


def small(share: float = 0.3) -> nn.Module:
    """An MLP of which a share of the weights is kept."""
    model = normalise_inputs(seeded(lambda: mlp(GREY, 10, **ABOUT["settings"])), (0.4,), (0.3,))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                p.copy_(torch.where(torch.rand(p.shape, generator=generator) < share, p, 0.0))
    return model.eval()


def written(path, model, about=None, rows=None, columns=None):
    path.write_bytes(pack(about or ABOUT, model.state_dict(), rows or {}, columns or {}))
    return path


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: t.numpy().tobytes() for name, t in model.state_dict().items()}


@pytest.fixture
def file(tmp_path):
    return written(tmp_path / "network.mint.safetensors", small())


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_network_comes_back_bit_for_bit_and_evaluates(tmp_path, share):
    model = small(share)
    again = load(written(tmp_path / "file", model))
    x = torch.rand(5, *GREY)
    assert bits(again) == bits(model) and not again.training
    assert torch.equal(again(x), model(x))


def test_a_zero_with_a_sign_takes_no_room_and_comes_back_as_zero(tmp_path):
    model, signed = small(), small()
    with torch.no_grad():
        for p in signed.parameters():
            p.copy_(torch.where(p == 0, -0.0, p))
    path, other = written(tmp_path / "file", model), written(tmp_path / "signed", signed)
    assert other.stat().st_size == path.stat().st_size and bits(load(other)) == bits(model)


def test_a_fresh_process_in_an_empty_folder_gives_the_same_outputs(file, tmp_path):
    (tmp_path / "empty").mkdir()
    code = (
        "import sys, torch, mint_cli\n"
        "network = mint_cli.load(sys.argv[1])\n"
        "x = torch.arange(128.).view(2, 1, 8, 8) / 128\n"
        "print(network(x).detach().numpy().tobytes().hex())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(file)], cwd=tmp_path / "empty", capture_output=True,
        text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    x = torch.arange(128.0).view(2, 1, 8, 8) / 128
    assert result.stdout.strip() == small()(x).detach().numpy().tobytes().hex()
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_kernels_that_are_gone_take_a_bit_each(share, tmp_path):
    model = normalise_inputs(resnet56((3, 16, 16), 10), (0.0,) * 3, (1.0,) * 3).eval()
    dense = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 4:
                stays = (torch.rand(p.shape[:2]) < share)[:, :, None, None]
                p.copy_(torch.where(stays, p, 0.0))
    settings = {"depth": 56, "bottleneck": False}
    about = {"model": "mint_cli.model.resnet_cifar.resnet_cifar", "settings": settings}
    about |= {"shape": (3, 16, 16), "classes": 10}
    path = written(tmp_path / "file", model, about)
    again = load(path)
    assert all(torch.equal(t, again.state_dict()[n]) for n, t in model.state_dict().items())
    assert path.stat().st_size < (share + 0.05) * dense


def mine(shape, classes):
    return Net(
        lambda m, x: m.out(pooled(torch.relu(m.last(torch.relu(m.first(x)))))),
        first=conv(shape[0], 6), last=conv(6, 5), out=nn.Linear(5, classes),
    )  # fmt: skip


def test_a_smaller_network_of_ones_own_is_rebuilt_by_its_function(tmp_path):
    model = normalise_inputs(seeded(lambda: mine(PIXELS, 3)), (0.1,) * 3, (0.5,) * 3)
    cells = filter_cells(model)
    rows, columns = indices(cells, some(cells))
    narrow(model, rows, columns)
    about = {"model": "elsewhere.mine", "settings": {}, "shape": PIXELS, "classes": 3}
    path = written(tmp_path / "file", model, about, rows, columns)
    again, x = mint_cli.load(path, model=mine), torch.rand(2, *PIXELS)
    assert torch.equal(again(x), model(x)) and bits(again) == bits(model)
    with pytest.raises(DataError, match="may name networks of this package, not elsewhere.mine"):
        load(path)


def test_a_function_is_given_the_settings_that_it_asks_for_and_a_network_is_left_as_it_was(
    tmp_path,
):
    def made(shape, classes, /, *, hidden, dropout=0.0):
        return mlp(shape, classes, hidden=hidden, dropout=dropout)

    model, about = small(), {**ABOUT, "model": "elsewhere.made"}
    path = written(tmp_path / "file", model, about)
    assert bits(load(path, model=made)) == bits(model)
    fresh = seeded(lambda: mlp(GREY, 10, **ABOUT["settings"]), seed=1)
    before = bits(fresh)
    assert bits(load(path, model=fresh)) == bits(model) and bits(fresh) == before
    with pytest.raises(DataError, match="is no whole packed network"):
        load(path, model=nn.Linear(2, 3))


@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
def test_a_network_of_torchvision_comes_back_bit_for_bit(tmp_path, name):
    pytest.importorskip("torchvision")
    from mint_cli.model.torchvision import torchvision

    model = normalise_inputs(
        seeded(lambda: torchvision((3, 32, 32), 3, name=name)), *[(0.5,) * 3] * 2
    )
    about = {"model": "mint_cli.model.torchvision.torchvision", "settings": {"name": name}}
    path = written(tmp_path / "file", model, about | {"shape": (3, 32, 32), "classes": 3})
    again, x = load(path), torch.rand(2, 3, 32, 32)
    assert bits(again) == bits(model) and torch.equal(again(x), model.eval()(x))


def test_two_names_of_one_tensor_are_both_held(tmp_path):
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
            self.other.weight = self.one.weight

    model = normalise_inputs(Tied(), (0.0,), (1.0,))
    path = written(tmp_path / "file", model, {**ABOUT, "model": "tied"})
    again = load(path, model=lambda shape, classes: Tied())
    assert torch.equal(again.other.weight, model.one.weight)


def edited(file, change=None, drop=(), **tensors):
    """The file with its header changed, tensors left out and others put in their place."""
    with safe_open(file, "pt") as opened:
        header = json.loads(opened.metadata()["mint"])
        held = {name: opened.get_tensor(name) for name in opened.keys() if name not in drop}
    if change:
        change(header)
    path = file.with_name("edited")
    save_file({**held, **tensors}, path, {"mint": json.dumps(header)})
    return path


TARGETS = [
    "os.system", "builtins.eval", "mint_cli.store.load", "mint_cli.model.mlp.math",
    "mint_cli.model.mlp.SettingError", "mint_cli.model.absent.absent", "mlp", "", None, ["os"],
    "mint_cli.model..os.system", "mint_cli.model.mlp.mlp.mlp",
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_a_header_that_names_anything_but_a_network_of_this_package_is_refused(
    file, target, monkeypatch
):
    monkeypatch.setattr(os, "system", lambda *_: pytest.fail("executed"))
    with pytest.raises(DataError) as told:
        load(edited(file, lambda h: h.update(model=target)))
    assert len(str(told.value).splitlines()) == 1


HEADERS = {
    "no settings": lambda h: h.pop("settings"),
    "settings of another kind": lambda h: h.update(settings=[1]),
    "a setting that does not exist": lambda h: h["settings"].update(bias=1),
    "other widths": lambda h: h["settings"].update(hidden=[40, 21]),
    "enormous widths": lambda h: h["settings"].update(hidden=[10**7, 10**7]),
    "no shape": lambda h: h.pop("shape"),
    "an enormous shape": lambda h: h.update(shape=[10**4, 10**4, 10**4]),
    "an infinite shape": lambda h: h.update(shape=[float("inf"), 8, 8]),
    "no classes": lambda h: h.update(classes=0),
    "10^12 elements": lambda h: h["shapes"].update({"fc1.weight": [[10**6, 10**6], 2]}),
    "a negative axis": lambda h: h["shapes"].update({"fc1.weight": [[-40, -64], 2]}),
    "a wrong number of axes": lambda h: h["shapes"].update({"fc1.weight": [[40, 64], 1]}),
    "a tensor too few": lambda h: h["shapes"].pop("fc2.bias"),
    "a tensor too many": lambda h: h["shapes"].update(other=[[1], 1]),
    "rows that are not held": lambda h: h["rows"].update(fc1=10**12),
    "another format": lambda h: h.update(format="mint-packed-2"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_an_edited_header_is_refused_in_one_sentence_and_allocates_little(file, kind):
    import resource

    path = edited(file, HEADERS[kind])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError) as told:
        load(path)
    assert str(path) in str(told.value) and len(str(told.value).splitlines()) == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


@pytest.mark.parametrize("name", ["bits/fc1.weight", "values/fc1.weight", "whole/fc1.bias"])
def test_a_missing_tensor_is_refused(file, name):
    with pytest.raises(DataError):
        load(edited(file, drop=(name,)))


@pytest.mark.parametrize(
    "tensors",
    [
        {"values/fc1.weight": torch.zeros(3)},
        {"values/fc1.weight": torch.zeros(1)},  # would spread over all that is kept
        {"bits/fc1.weight": torch.zeros(3, dtype=torch.uint8)},
        {"bits/fc1.weight": torch.zeros(320)},
        {"whole/fc1.bias": torch.zeros(40, dtype=torch.float64)},
        {"whole/fc1.bias": torch.zeros(41)},
    ],
)
def test_tensors_of_other_numbers_or_kinds_are_refused(file, tensors):
    with pytest.raises(DataError):
        load(edited(file, **tensors))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: math.floor(share * len(content))])
    with pytest.raises(DataError, match="is no whole packed network"):
        load(file)


def test_what_is_no_packed_network_is_refused(tmp_path):
    with pytest.raises(DataError, match="absent"):
        load(tmp_path / "absent")
    with pytest.raises(DataError):
        load(tmp_path)
    plain = tmp_path / "plain"
    save_file({"weight": torch.zeros(3)}, plain)
    with pytest.raises(DataError, match="its header does not say mint-packed-1"):
        load(plain)
    deep = tmp_path / "deep"
    save_file({"weight": torch.zeros(3)}, deep, {"mint": "[" * 100_000})
    with pytest.raises(DataError):
        load(deep)


def test_a_mask_is_held_where_it_takes_less_than_the_values():
    value = torch.ones(4, 5, 3, 3)
    assert mask_of(value) is None
    value[1] = 0.0
    assert mask_of(value).shape == (4, 5)
    value[2, 0, 0, 0] = 0.0
    assert mask_of(value).shape == value.shape


def in_units(shape, classes):
    return branches.residual()


def without_a_unit(path, **changed):
    """The file of a network that has lost a unit, and the network."""
    model = branches.network(branches.residual)
    gone = modules_of(find(model, PIXELS).units[1])
    drop(model, gone)
    about = {"model": "elsewhere.mine", "settings": {}, "shape": PIXELS, "classes": 3} | changed
    path.write_bytes(pack(about, model.state_dict(), {}, {}, gone))
    return path, model


def test_a_network_without_a_unit_is_rebuilt_bit_for_bit(tmp_path):
    path, model = without_a_unit(tmp_path / "file")
    again, x = mint_cli.load(path, model=in_units), torch.rand(2, *PIXELS)
    assert torch.equal(again(x), model(x)) and bits(again) == bits(model)


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        (["nowhere"], "nowhere"),
        (["second"], "second cannot be left out, it is Sequential"),
        ([""], "the network cannot be left out"),
        (["second.2"], "second.2 cannot be left out, it is ReLU"),
        (["second.0"] * 2, "second.0 cannot be left out, it is Zeros"),
        ([["__class__"]], "__class__"),
        (7, "not iterable"),
        (["first.0"], r"the network has no \S+ of the shape"),
    ],
)
def test_a_file_that_says_what_cannot_be_gone_is_refused(tmp_path, gone, told):
    path, _ = without_a_unit(tmp_path / "file")
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["mint"])
        held = {name: file.get_tensor(name) for name in file.keys()}
    save_file(held, path, {"mint": json.dumps(header | {"gone": gone})})
    with pytest.raises(DataError, match=f"is no whole packed network: .*{told}"):
        load(path, model=in_units)
