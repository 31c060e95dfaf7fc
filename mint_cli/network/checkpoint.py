"""Checkpoints from elsewhere: read without running any code, and fitted to a network of ours."""

from __future__ import annotations

import hashlib
import io
from itertools import zip_longest
from pathlib import Path

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from mint_cli.errors import SettingError
from mint_cli.protocol import Tensors

# Public files that do not carry their own input normalisation: sha256 -> (mean, std), of pixels in [0, 1].
NORMALISATIONS = {
    # gh:akamaster/pytorch_resnet_cifar10, ResNet56 (resnet56-4bfd9763.th), 93.39 % of the 10,000 test images
    "4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # VGG16/CIFAR-10 with batch norm, float16 (vgg16_bn_cifar10_fp16.pth), 92.38 %
    "b3e99c7258c5deb4cbd7f45469048add5240e63f040d08fa8a05a75d32345ef1": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    # DenseNet-BC-100-12/CIFAR-10 of the checkpoint published with DICE (densenet_bc_100_12_dice.pth.tar), 94.03 %
    "deaefd082911a1c6c92aacdcfecf03c71b932acc5c08b779c85c44eccdc0c817": (
        (125.3 / 255, 123.0 / 255, 113.9 / 255),
        (63.0 / 255, 62.1 / 255, 66.7 / 255),
    ),
}
NORMALISATION = ("input_mean", "input_std")  # buffers of network.normalise_inputs


def load(path: str | Path) -> Tensors:
    """Named tensors of a safetensors or torch file, halves as float32; SettingError if it holds anything but tensors, unread."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingError(f"model.weights must name a readable file, not {path} ({error.strerror})") from error
    state = read(content, path)
    if any(key.startswith("state/") for key in state):  # an artifact of the store
        state = {key.removeprefix("state/"): value for key, value in state.items() if key.startswith("state/")}
    state = {key.removeprefix("module."): value for key, value in state.items()}
    known = NORMALISATIONS.get(hashlib.sha256(content).hexdigest())
    if known:
        state |= {key: torch.tensor(values).view(1, -1, 1, 1) for key, values in zip(NORMALISATION, known, strict=True)}
    return {key: value.float() if value.dtype in (torch.float16, torch.bfloat16) else value for key, value in state.items()}


def read(content: bytes, path: Path) -> Tensors:
    """Tensors of a file's bytes: safetensors if the name says so, else torch's own format restricted to plain data."""
    try:
        state = load_safetensors(content) if path.suffix == ".safetensors" else torch.load(io.BytesIO(content), "cpu", weights_only=True)
        state = state.get("state_dict", state)
        if not state or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
            raise ValueError("no state dict")
    except Exception as error:  # whatever a damaged or hostile file makes the two readers raise
        raise SettingError(
            f"model.weights must name a whole safetensors or torch file of plain tensors, which {path} is not "
            f"({type(error).__name__}); nothing in it was executed"
        ) from error
    return dict(state)


def fit_to(model: nn.Module, state: Tensors, name: str) -> None:
    """Give ``model`` the values of ``state``, a file called ``name``; SettingError with the first key that does not fit.

    Keys are matched by name if they are the same, otherwise in order of definition (torch files keep it, safetensors files
    do not), where the last part of the name and the shape must agree.  What a file may lack (counters of batch norm, the
    input normalisation) stays as it is.
    """
    own = model.state_dict()
    given, wanted = essential(state), essential(own)
    keys = list(wanted) if set(given) == set(wanted) else list(given)
    for ours, theirs in zip_longest(wanted, keys):
        if not agree(ours, wanted, theirs, given):
            raise SettingError(f"model.weights={name} does not fit the network: {described(ours, wanted, theirs, given)}")
    broken = next((key for key in keys if not given[key].isfinite().all()), None)
    if broken:
        raise SettingError(f"model.weights={name} holds numbers that are not finite in {broken}")
    for key in NORMALISATION:
        if key in own and key in state and own[key].numel() != state[key].numel():
            raise SettingError(f"model.weights={name} is for images of {state[key].numel()} channels, not {own[key].numel()}")
    own |= {ours: given[theirs] for ours, theirs in zip(wanted, keys, strict=True)}
    own |= {key: state[key].view_as(own[key]) for key in NORMALISATION if key in own and key in state}
    model.load_state_dict(own)


def essential(state: Tensors) -> Tensors:
    """The entries that two files of one architecture must share."""
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked") and key not in NORMALISATION}


def agree(ours: str | None, wanted: Tensors, theirs: str | None, given: Tensors) -> bool:
    """Whether two entries end in the same word and have the same shape."""
    if ours is None or theirs is None:
        return False
    return ours.rpartition(".")[2] == theirs.rpartition(".")[2] and wanted[ours].shape == given[theirs].shape


def described(ours: str | None, wanted: Tensors, theirs: str | None, given: Tensors) -> str:
    """Half a sentence about two entries that do not agree."""
    sides = [(ours, wanted, "the network"), (theirs, given, "the file")]
    return " but ".join(f"{where} has {key} {tuple(state[key].shape)}" if key else f"{where} ends" for key, state, where in sides)


from dataclasses import dataclass, field  # noqa: E402


@dataclass(frozen=True)
class Checkpoint:
    path: Path = field(metadata={"identity": False})
    sha256: str
    key: str | None
    match: str
    zeros: bool

    @classmethod
    def of(cls, path, key, match, zeros):
        return cls(Path(path), hashlib.sha256(Path(path).read_bytes()).hexdigest(), key, match, zeros)


def masks(model): return {}
_load = load
def load(checkpoint, model): fit_to(model, _load(checkpoint.path), str(checkpoint.path))
