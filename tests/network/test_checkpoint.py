"""Checkpoints: what is matched how, what fits, what is refused, and whose zeros stay."""

import errno
import logging
import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from networks import resnet56
from safetensors.torch import save_file
from torch import nn
from torchvision.datasets import CIFAR10

from mint_cli.errors import SettingError
from mint_cli.model.densenet import densenet
from mint_cli.model.vgg16 import vgg16
from mint_cli.network.checkpoint import Checkpoint, load, masks
from mint_cli.network.layers import normalise_inputs
from mint_cli.store import describe

SHARED = Path(__file__).parents[2] / "../shared/data"


def network(seed: int = 0, **layers: nn.Module) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(3, 4, 3),
                norm=nn.BatchNorm2d(4),
                flat=nn.Flatten(),
                fc1=nn.Linear(16, 16),
                fc2=nn.Linear(16, 16),
                out=nn.Linear(16, 2),
            )
            | layers
        )
        nn.init.normal_(model.norm.running_mean)
    return normalise_inputs(model, (0.0,) * 3, (1.0,) * 3).eval()


def plain(state):
    """A state as other programmes write it, without an input normalisation."""
    return OrderedDict((k, v.clone()) for k, v in state.items() if not k.startswith("input_"))


def start(path, key=None, match="name", zeros=False, model=None):
    model = model or network(1)
    return model, load(Checkpoint.of(str(path), key, match, zeros), model)


def same(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(t, theirs[name]) for name, t in one.state_dict().items())


def prefixed(prefix, state):
    return OrderedDict((prefix + name, value) for name, value in state.items())


# What is matched how.


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "model.net.", "backbone."])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_names_fit_whatever_wraps_them_and_in_any_order(tmp_path, prefix, suffix):
    theirs, path = network(), tmp_path / f"x.{suffix}"
    state = OrderedDict(reversed(prefixed(prefix, theirs.state_dict()).items()))
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    ours, report = start(path)
    assert same(ours, theirs)
    note = f" (prefix {prefix} removed)" if prefix else ""
    assert report.matched == f"12 tensors by name{note}"


def test_a_network_that_is_itself_wrapped_takes_bare_names(tmp_path):
    theirs = network()
    torch.save(plain(theirs.state_dict()), tmp_path / "x.pth")
    inner = network(1)
    del inner.input_mean, inner.input_std
    wrapped = nn.Sequential(OrderedDict(model=inner))
    normalise_inputs(wrapped, (0.5,) * 3, (2.0,) * 3)
    _, report = start(tmp_path / "x.pth", model=wrapped)
    assert torch.equal(wrapped.model.fc1.weight, theirs.fc1.weight)
    assert wrapped.input_std.unique().tolist() == [2.0]
    assert "prefix model. added" in report.matched and "as the data set says" in report.matched


def test_wrappers_of_single_layers_are_left_out(tmp_path):
    theirs = network()
    state = {n.replace("fc", "_orig_mod.fc"): v for n, v in theirs.state_dict().items()}
    state = {n.replace("conv.", "conv._fsdp_wrapped_module."): v for n, v in state.items()}
    torch.save(state, tmp_path / "x.pth")
    assert same(start(tmp_path / "x.pth")[0], theirs)


@pytest.mark.parametrize(
    "nest",
    [
        lambda s: {"state_dict": s, "epoch": 3, "best": torch.tensor(0.5)},
        lambda s: {"model": {"state_dict": prefixed("module.", s)}, "optimizer": {"state": {0: s}}},
        lambda s: {"state_dict": prefixed("model.", s), "hyper_parameters": {"lr": 0.1}},
        lambda s: {"model_ema": s, "model": {"odd": torch.ones(3)}},
        lambda s: {"module": s | {"n_averaged": torch.tensor(4)}},
        lambda s: {"generator": s},
    ],
    ids=["usual", "optimiser", "lightning", "one fits", "averaged", "another place"],
)
def test_the_place_in_a_nested_file_is_found(tmp_path, nest):
    theirs = network()
    torch.save(nest(plain(theirs.state_dict())), tmp_path / "x.pth")
    assert same(start(tmp_path / "x.pth")[0], theirs)


def test_two_networks_in_one_file_are_told_apart_by_the_key_only(tmp_path):
    one, two, path = network(2), network(3), tmp_path / "x.pth"
    torch.save({"state_dict": one.state_dict(), "ema": {"model": two.state_dict()}}, path)
    words = "checkpoint_key must choose between state_dict, ema.model, .*checkpoint_key=state_dict"
    with pytest.raises(SettingError, match=words):
        start(path)
    assert same(start(path, "state_dict")[0], one) and same(start(path, "ema.model")[0], two)
    assert same(start(path, "ema")[0], two)
    with pytest.raises(SettingError, match="must be one of state_dict, ema.model, not model"):
        start(path, "model")


def test_two_networks_side_by_side_are_told_apart_by_what_their_names_begin_with(tmp_path):
    one, two, path = network(2), network(3), tmp_path / "x.safetensors"
    both = prefixed("student.", one.state_dict()) | prefixed("teacher.net.", two.state_dict())
    save_file(both, path)
    assert same(start(path, "student")[0], one) and same(start(path, "teacher")[0], two)
    torch.save({"state_dict": both}, tmp_path / "x.pth")
    assert same(start(tmp_path / "x.pth", "state_dict.student")[0], one)


def test_a_network_beside_others_in_one_mapping_is_not_taken_without_a_key(tmp_path):
    both = plain(network().state_dict()) | {"loss.weight": torch.ones(2)}
    torch.save(both, tmp_path / "x.pth")
    with pytest.raises(SettingError, match="it has loss.weight"):
        start(tmp_path / "x.pth")


def foreign(state):
    """Other names, the order the same."""
    names = {"conv": "features.0", "norm": "features.1", "fc1": "a", "fc2": "b", "out": "head"}
    parts = ((name.partition("."), value) for name, value in plain(state).items())
    return OrderedDict((f"{names[first]}.{end}", value) for (first, _, end), value in parts)


def test_other_names_are_matched_by_position_on_request_only(tmp_path):
    theirs, path = network(), tmp_path / "x.pth"
    torch.save(prefixed("module.", foreign(theirs.state_dict())), path)
    words = "lacks conv.weight, .* and has module.features.0.weight, .*checkpoint_match=position"
    with pytest.raises(SettingError, match=words):
        start(path)
    ours, report = start(path, match="position")
    assert same(ours, theirs) and report.matched.startswith("12 tensors by position;")


def test_position_is_not_advised_where_it_would_not_fit(tmp_path):
    torch.save(foreign(network().state_dict()) | {"more.weight": torch.ones(2)}, tmp_path / "x.pth")
    with pytest.raises(SettingError, match="it lacks conv.weight") as error:
        start(tmp_path / "x.pth")
    assert "checkpoint_match" not in str(error.value)


def test_layers_defined_in_another_order_load_rightly_by_name(tmp_path):
    theirs = network()
    state = plain(theirs.state_dict())
    for name in ("fc1.weight", "fc1.bias"):  # now after fc2, which has the same shape
        state.move_to_end(name)
    torch.save(state, tmp_path / "x.pth")
    assert same(start(tmp_path / "x.pth")[0], theirs)


def test_safetensors_have_no_order_to_match_by(tmp_path):
    save_file(foreign(network().state_dict()), tmp_path / "x.safetensors")
    with pytest.raises(SettingError, match="checkpoint_match must be name, not position; .*order"):
        start(tmp_path / "x.safetensors", match="position")
    with pytest.raises(SettingError, match="it lacks conv.weight") as error:
        start(tmp_path / "x.safetensors")
    assert "checkpoint_match" not in str(error.value)


def test_what_was_matched_how_is_logged_once(tmp_path, caplog):
    torch.save(prefixed("module.", network().state_dict()), tmp_path / "x.pth")
    with caplog.at_level(logging.INFO):
        start(tmp_path / "x.pth")
    assert caplog.messages == ["x.pth: 12 tensors by name (prefix module. removed)"]


# Public files.


@pytest.fixture
def cifar10_test():
    for root in (os.environ.get("MINT_DATA", ""), "data"):
        if root and (Path(root) / "cifar-10-batches-py" / "test_batch").exists():
            test = CIFAR10(root, train=False)
            pixels = torch.from_numpy(test.data).permute(0, 3, 1, 2)
            return pixels[:500] / 255, torch.tensor(test.targets)[:500]
    pytest.skip("the CIFAR-10 files are not here (MINT_DATA)")


def densenet100(shape, classes):
    return densenet(shape, classes, depth=100, growth=12, reduction=0.5)


@pytest.mark.parametrize(
    "plugin, file, how, images, least",
    [
        (resnet56, "resnet56-4bfd9763.th", "position", 500, 92.0),
        (vgg16, "vgg16_bn_cifar10_fp16.pth", "position", 500, 90.5),
        (densenet100, "densenet_bc_100_12_dice.pth.tar", "name", 100, 92.0),
    ],
)
def test_public_files_bring_their_normalisation_and_accuracy(
    cifar10_test, plugin, file, how, images, least
):
    path = SHARED / "weights" / file
    if not path.exists():
        pytest.skip("the public checkpoints are not here")
    model = normalise_inputs(plugin((3, 32, 32), 10), (0.0,) * 3, (1.0,) * 3).eval()
    _, report = start(path, model=model)
    assert report.matched.endswith(f"by {how}, a file whose content is known")
    assert model.input_mean.max() > 0.4
    pixels, labels = (side[:images] for side in cifar10_test)
    with torch.no_grad():
        right = (model(pixels).argmax(1) == labels).double().mean()
    assert 100 * right >= least


def test_a_public_file_for_other_classes_is_refused_by_shape():
    path = SHARED / "weights" / "resnet56-4bfd9763.th"
    if not path.exists():
        pytest.skip("the public checkpoints are not here")
    with pytest.raises(
        SettingError, match=r"linear.weight \(100, 64\) but .*linear.weight \(10, 64\)"
    ):
        start(path, model=resnet56((3, 32, 32), 100))


# What starts anew on purpose.


def load_new(path, *new, match="name", model=None, zeros=False):
    model = model or network(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = load(Checkpoint.of(str(path), None, match, zeros, new), model)
    fresh = {n for n, v in model.state_dict().items() if torch.equal(v, before[n])}
    return model, report, {n for n in fresh if not n.startswith(("input_", "norm."))}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("classes", [2, 5, None])
def test_a_new_classifier_keeps_its_weights_whatever_the_file_has_there(tmp_path, prefix, classes):
    theirs = plain(network(out=nn.Linear(16, classes or 2)).state_dict())
    if classes is None:  # features only
        theirs = OrderedDict((n, v) for n, v in theirs.items() if not n.startswith("out."))
    torch.save(prefixed(prefix, theirs), tmp_path / "x.pth")
    model, report, fresh = load_new(tmp_path / "x.pth", "out")
    assert fresh == {"out.weight", "out.bias"}
    assert torch.equal(model.fc1.weight, theirs["fc1.weight"])
    assert report.matched.startswith("10 tensors by name") and report.matched.endswith("; out anew")


def test_patterns_name_several_modules_and_all_below(tmp_path):
    torch.save(plain(network().state_dict()), tmp_path / "x.pth")
    fresh = load_new(tmp_path / "x.pth", "fc*", "out")[2]
    assert fresh == {f"{m}.{p}" for m in ("fc1", "fc2", "out") for p in ("weight", "bias")}


@pytest.mark.parametrize("match", ["name", "position"])
def test_by_position_the_places_of_what_is_new_may_be_taken_or_missing(tmp_path, match):
    state = foreign(network(out=nn.Linear(16, 5)).state_dict())
    for name in (None, "head.bias", "head.weight"):
        state.pop(name, None)
        torch.save(state, tmp_path / "x.pth")
        if name == "head.bias" or match == "name":
            with pytest.raises(SettingError, match="^checkpoint must name a file that fits"):
                load_new(tmp_path / "x.pth", "out", match=match)
        else:
            model, _, fresh = load_new(tmp_path / "x.pth", "out", match=match)
            assert fresh == {"out.weight", "out.bias"}
            assert torch.equal(model.fc2.weight, state["b.weight"])


def test_all_that_is_not_new_must_fit_as_ever(tmp_path):
    state = plain(network(fc1=nn.Linear(16, 9)).state_dict())
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(SettingError, match=r"fc1.weight \(16, 16\) but .* fc1.weight \(9, 16\)"):
        load_new(tmp_path / "x.pth", "out")
    torch.save(state | {"more.weight": torch.ones(2)}, tmp_path / "x.pth")
    with pytest.raises(SettingError, match="it has more.weight"):
        load_new(tmp_path / "x.pth", "out")


@pytest.mark.parametrize(
    ("change", "new", "advice"),
    [
        (lambda s: s.update({"out.weight": torch.ones(5, 16)}), (), "[out]"),
        (lambda s: [s.pop(n) for n in list(s) if n.startswith("out.")], (), "[out]"),
        (lambda s: [s.pop(n) for n in list(s) if n.startswith("fc2.")], ("out",), "[out,fc2]"),
    ],
)
def test_a_refusal_says_what_to_type_to_start_a_module_anew(tmp_path, change, new, advice):
    state = plain(network().state_dict())
    change(state)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(SettingError) as error:
        load_new(tmp_path / "x.pth", *new)
    assert f"; checkpoint_new={advice} starts" in str(error.value)
    load_new(tmp_path / "x.pth", *advice[1:-1].split(","))  # and it does


def test_the_largest_module_of_which_nothing_fits_is_advised(tmp_path):
    def nested(classes):
        head = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, classes))
        layers = OrderedDict(conv=nn.Conv2d(3, 4, 3), head=head)
        return normalise_inputs(nn.Sequential(layers), (0.0,) * 3, (1.0,) * 3)

    state = plain(nested(2).state_dict())
    torch.save({n: v for n, v in state.items() if n.startswith("conv")}, tmp_path / "x.pth")
    with pytest.raises(SettingError, match=r"checkpoint_new=\[head\] starts"):
        load_new(tmp_path / "x.pth", model=nested(2))
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(SettingError, match=r"checkpoint_new=\[head.2\] starts"):
        load_new(tmp_path / "x.pth", model=nested(3))


def test_another_network_altogether_is_not_advised_to_start_anew(tmp_path):
    torch.save({"conv.weight": torch.ones(4, 3, 3, 3), "x.bias": torch.ones(1)}, tmp_path / "x.pth")
    with pytest.raises(SettingError, match="it lacks conv.bias") as error:
        load_new(tmp_path / "x.pth")
    assert "checkpoint_new" not in str(error.value)


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ("aut", "must name modules with weights, not aut; did you mean out?"),
        ("flat", "must name modules with weights, not flat"),
        ("*", "leaves nothing that the file could give"),
    ],
)
def test_a_module_that_is_not_there_is_told_with_the_nearest(tmp_path, new, words):
    torch.save(network().state_dict(), tmp_path / "x.pth")
    with pytest.raises(SettingError) as error:
        load_new(tmp_path / "x.pth", new)
    assert f"checkpoint_new {words}" in str(error.value)


def test_zeros_of_what_is_new_are_none_to_keep(tmp_path):
    theirs, model = network(), network(1)
    for m in (theirs.fc1, model.out):
        nn.init.zeros_(m.weight)
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    report = load_new(tmp_path / "x.pth", "out", model=model, zeros=True)[1]
    assert set(report.masks) == {"fc1.weight"}


def test_a_key_knows_what_is_new_and_is_as_before_where_nothing_is(tmp_path):
    torch.save(network().state_dict(), tmp_path / "x.pth")
    one, two, none = (
        describe(Checkpoint.of(tmp_path / "x.pth", None, "name", False, new))
        for new in (["out"], ["fc2"], [])
    )
    assert one != two and one != none
    assert set(none["Checkpoint"]) == {"sha256", "key", "match", "zeros"}


# What does not fit.


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_the_networks(tmp_path, dtype):
    theirs = network()
    for value in theirs.state_dict().values():
        value.copy_(value.to(torch.bfloat16).to(torch.float16))
    torch.save({n: v.to(dtype) for n, v in theirs.state_dict().items()}, tmp_path / "x.pth")
    ours, _ = start(tmp_path / "x.pth")
    assert same(ours, theirs) and ours.fc1.weight.dtype == torch.float32


def test_another_number_of_classes_is_refused_by_name_and_shapes(tmp_path):
    torch.save(network(out=nn.Linear(16, 5)).state_dict(), tmp_path / "x.pth")
    words = r"the network has out.weight \(2, 16\) but the file has out.weight \(5, 16\)"
    with pytest.raises(SettingError, match=words):
        start(tmp_path / "x.pth")


def test_lacking_and_unexpected_names_are_told_by_the_first_few(tmp_path):
    state = plain(network().state_dict())
    for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"):
        state[f"x{name}"] = state.pop(name)
    state["xout.weight"] = torch.ones(1)
    torch.save(state, tmp_path / "x.pth")
    words = r"lacks fc1.weight, fc1.bias, fc2.weight \(1 more\) and has xfc1.weight, .* \(2 more\)$"
    with pytest.raises(SettingError, match=words):
        start(tmp_path / "x.pth")


def test_by_position_the_first_tensor_that_disagrees_is_told(tmp_path):
    state = foreign(network(out=nn.Linear(16, 5)).state_dict())
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(SettingError, match=r"out.weight \(2, 16\) but .* head.weight \(5, 16\)"):
        start(tmp_path / "x.pth", match="position")
    state.pop("head.bias")
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(SettingError, match=r"out.bias \(2,\) where the file ends"):
        start(tmp_path / "x.pth", match="position")
    state.pop("features.0.bias")
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(SettingError, match=r"conv.bias \(4,\) but .* features.1.weight \(4,\)"):
        start(tmp_path / "x.pth", match="position")


def huge() -> torch.Tensor:
    return torch.ones(1).expand(16, 10**9)


CHANGES = {
    "nan": (lambda s: s["out.bias"].fill_(float("nan")), "out.bias holds numbers that are not fin"),
    "inf": (lambda s: s["out.bias"].fill_(float("inf")), "out.bias holds numbers that are not fin"),
    "too large": (
        lambda s: 1e300 * s["out.bias"].double(),
        "out.bias holds numbers that are not f",
    ),
    "Boolean": (lambda s: s["out.bias"] > 0, "out.bias holds Boolean numbers, not real ones"),
    "whole": (lambda s: s["out.bias"].long(), "out.bias holds whole numbers, not real ones"),
    "complex": (lambda s: s["out.bias"] + 0j, "out.bias holds complex numbers, not real ones"),
    "sparse": (
        lambda s: s["out.bias"].to_sparse(),
        "the file has out.bias a tensor that is sparse",
    ),
    "meta": (lambda s: s["out.bias"].to("meta"), "out.bias a tensor that is without numbers"),
    "expanded": (lambda s: huge(), r"out.bias \(2,\) but the file has out.bias \(16, 1000000000\)"),
    "no tensor": (lambda s: [1, 2], "it lacks out.bias"),
}


@pytest.mark.parametrize("change, words", CHANGES.values(), ids=CHANGES.keys())
def test_values_that_are_none_for_the_network_are_refused_by_name(tmp_path, change, words):
    state = network().state_dict()
    state["out.bias"] = change(state)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(
        SettingError, match=f"^checkpoint must name a file that fits .*x.pth; .*{words}"
    ):
        start(tmp_path / "x.pth")


NORMALISATIONS = {
    "negative": ({"input_std": -torch.ones(1, 3, 1, 1)}, "input_std is not above 0"),
    "zero": ({"input_std": torch.tensor([1.0, 0, 1])}, "input_std is not above 0"),
    "nan": ({"input_mean": torch.full((3,), torch.nan)}, "input_mean holds numbers that are not"),
    "grey": ({"input_mean": torch.zeros(1)}, "input_mean is for images of 1 channels, not 3"),
    "half": ({"input_mean": None}, "only one of input_mean and input_std"),
    "variance": ({"norm.running_var": -torch.ones(4)}, "the variance norm.running_var is below 0"),
}


@pytest.mark.parametrize("change, words", NORMALISATIONS.values(), ids=NORMALISATIONS.keys())
def test_a_normalisation_that_cannot_be_is_refused(tmp_path, change, words):
    state = network().state_dict() | change
    torch.save({name: v for name, v in state.items() if v is not None}, tmp_path / "x.pth")
    with pytest.raises(SettingError, match=words):
        start(tmp_path / "x.pth")


def test_the_input_normalisation_of_a_file_comes_with_it(tmp_path):
    theirs = normalise_inputs(network(), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    torch.save(prefixed("module.", theirs.state_dict()), tmp_path / "x.pth")
    assert same(start(tmp_path / "x.pth")[0], theirs)


def test_tied_tensors_that_differ_in_the_file_are_refused(tmp_path):
    torch.save(network().state_dict(), tmp_path / "x.pth")
    tied = network(1)
    tied.fc2.weight = tied.fc1.weight
    with pytest.raises(SettingError, match="weight is one with another tensor of the network"):
        start(tmp_path / "x.pth", model=tied)


# Zeros.


def sparse_network() -> nn.Module:
    model = network()
    with torch.no_grad():
        model.fc1.weight[:, ::2] = 0
        model.conv.weight[1, 2] = 0
        model.out.bias[0] = 0
    return model


def test_zeros_are_kept_on_request_where_weights_have_some(tmp_path):
    theirs = sparse_network()
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    _, report = start(tmp_path / "x.pth", zeros=True)
    assert set(report.masks) == {"conv.weight", "fc1.weight"}
    for name, mask in report.masks.items():
        assert mask.dtype == torch.bool and torch.equal(mask, theirs.get_parameter(name) != 0)
    assert masks(network()) == {}


def test_many_zeros_that_will_not_be_kept_are_warned_of(tmp_path, caplog):
    torch.save(sparse_network().state_dict(), tmp_path / "x.pth")
    _, report = start(tmp_path / "x.pth")
    weights = 3 * 4 * 9 + 2 * 16 * 16 + 2 * 16
    share = f"{100 * 137 / weights:.1f} %"
    assert report.masks == {} and caplog.records[-1].levelname == "WARNING"
    assert f"137 of its weights ({share}) are exactly zero" in caplog.messages[-1]
    caplog.clear()
    start(tmp_path / "x.pth", zeros=True)
    torch.save(network().state_dict(), tmp_path / "x.pth")
    start(tmp_path / "x.pth")
    assert not caplog.records


def artifact(path, model, **more):
    state = {name: t.clone() for name, t in model.state_dict().items()}
    save_file(prefixed("state/", state) | more, path)


def test_the_network_of_a_store_is_a_checkpoint_and_its_masks_come_with_its_zeros(tmp_path):
    theirs, path = sparse_network(), tmp_path / "tensors.safetensors"
    mask = torch.ones(16, 16, dtype=torch.bool)
    mask[:, 0] = False
    more = {"mask/fc1.weight": mask, "mask/norm.bias": torch.ones(4, dtype=torch.bool)}
    artifact(path, theirs, **more, **{"kept/fc1": torch.ones(3)})
    ours, report = start(path, zeros=True)
    assert same(ours, theirs)
    assert set(report.masks) == {"conv.weight", "fc1.weight", "norm.bias"}
    assert torch.equal(report.masks["fc1.weight"], mask)
    assert start(path)[1].masks == {}


@pytest.mark.parametrize("mask", [torch.zeros(16), torch.zeros(15).bool(), torch.zeros(16).bool()])
def test_masks_that_do_not_fit_the_values_are_refused(tmp_path, mask):
    artifact(tmp_path / "x.safetensors", network(), **{"mask/fc1.weight": mask})
    with pytest.raises(SettingError, match="mask/fc1.weight (is no mask|removes weights)"):
        start(tmp_path / "x.safetensors", zeros=True)


# The value, and files that are none.


def test_content_and_settings_make_the_key_and_the_place_does_not(tmp_path):
    (tmp_path / "a").mkdir()
    for place in (tmp_path / "x.pth", tmp_path / "a" / "y.pth"):
        torch.save(network().state_dict(), place)
        place.write_bytes((tmp_path / "x.pth").read_bytes())
    one = Checkpoint.of(str(tmp_path / "x.pth"), None, "name", False)
    assert describe(one) == describe(Checkpoint.of(tmp_path / "a" / "y.pth", None, "name", False))
    assert describe(one) != describe(Checkpoint.of(tmp_path / "x.pth", None, "name", True))
    assert describe(one) != describe(Checkpoint.of(tmp_path / "x.pth", "model", "name", False))
    assert describe(one) != describe(Checkpoint.of(tmp_path / "x.pth", None, "position", False))


@pytest.mark.parametrize(
    "settings, words",
    [
        ((3, None, "name", False), "checkpoint must name a file, not 3"),
        (("", None, "name", False), "checkpoint must name a file"),
        (("x", 3, "name", False), "checkpoint_key must be null or .* not 3"),
        (("x", "", "name", False), "checkpoint_key must be null or .* not ''"),
        (("x", None, "shape", False), "checkpoint_match must be name or position, not shape"),
        (("x", None, ["name"], False), "checkpoint_match must be name or position"),
        (("x", None, "name", 1), "checkpoint_zeros must be true or false, not 1"),
    ],
)
def test_settings_out_of_bounds_are_refused_by_name(settings, words):
    with pytest.raises(SettingError, match=words):
        Checkpoint.of(*settings)


def test_what_is_no_file_is_refused_without_being_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "loop.pth").symlink_to("loop.pth")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.pth").write_text("weights")
    for name, words in {
        "absent.pth": "absent.pth; No such file",
        ".": "it is a folder",
        "pipe.pth": "it is a pipe",
        "loop.pth": "symbolic links",
        "empty.pth": "it is empty",
        "text.pth": "begins like neither",
        "text.pth/inside": "Not a directory",
        "nul\0.pth": "null",
        "x" * 300: "too long",
    }.items():
        with pytest.raises(SettingError, match=f"(?s)checkpoint must name a whole .*{words}"):
            Checkpoint.of(str(tmp_path / name), None, "name", False)
    with pytest.raises(SettingError, match="/dev/zero; it is a device"):
        Checkpoint.of("/dev/zero", None, "name", False)


def test_a_file_that_must_not_be_read_is_refused(tmp_path, monkeypatch):
    torch.save(network().state_dict(), tmp_path / "x.pth")

    def denied(self, mode):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(SettingError, match="x.pth; Permission denied"):
        Checkpoint.of(str(tmp_path / "x.pth"), None, "name", False)


@pytest.mark.parametrize("change", ["replaced", "cut", "grown", "gone"])
def test_a_file_that_changes_before_it_is_loaded_is_refused(tmp_path, change):
    path, model = tmp_path / "x.pth", network(1)
    torch.save(network().state_dict(), path)
    taken, before = Checkpoint.of(str(path), None, "name", False), network(1)
    if change == "replaced":
        torch.save(network(2).state_dict(), path)
    elif change == "gone":
        path.unlink()
    else:
        held = path.read_bytes()
        path.write_bytes(held[:-100] if change == "cut" else held + b"x")
    with pytest.raises(SettingError, match="No such file" if change == "gone" else "been replaced"):
        load(taken, model)
    assert same(model, before)


def test_a_file_larger_than_the_network_accounts_for_is_not_read(tmp_path):
    torch.save(
        {"state_dict": network().state_dict(), "other": torch.ones(5 * 2**20)}, tmp_path / "x"
    )
    with pytest.raises(SettingError, match="larger than the .* bytes that this network"):
        start(tmp_path / "x")


def test_names_from_a_file_are_printed_harmlessly(tmp_path):
    torch.save({"\x1b[2J\n": torch.ones(2), "y" * 10000: torch.ones(2)}, tmp_path / "x.pth")
    with pytest.raises(SettingError) as error:
        start(tmp_path / "x.pth")
    assert str(error.value).isprintable() and len(str(error.value)) < 1000


class Code:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_code_in_a_file_is_never_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    theirs = network()
    torch.save({"state_dict": theirs.state_dict(), "more": Code()}, "more.pth")
    assert same(start("more.pth")[0], theirs)
    torch.save({"state_dict": {"conv.weight": Code()}}, "evil.pth")
    with pytest.raises(SettingError, match="nothing in it was executed"):
        start("evil.pth")
    assert not Path("executed").exists()
