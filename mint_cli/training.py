"""The only training loop, and evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from mint_cli import images as im
from mint_cli.door import check_types
from mint_cli.network import device_of, inference, settle_constant_channels, spread, weighted_layers
from mint_cli.protocol import DataError, Images, Masks, SettingError, Tensors
from mint_cli.store import Context


@dataclass(frozen=True)
class Recipe:
    """How to optimise: SGD with momentum, one learning-rate decay, one precision."""

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    nesterov: bool
    weight_decay: float
    decay: str  # step: times gamma at each milestone; cosine: to zero over all epochs
    milestones: list[int]
    gamma: float
    warmup: int  # epochs of linear rise from zero
    label_smoothing: float
    precision: str  # float32 | bfloat16 (autocast)
    compile: bool

    def __post_init__(self) -> None:
        check_types("recipe", Recipe, vars(self))  # main.told puts schedule.train or schedule.retrain in place of "recipe setting"
        for name, low in (("epochs", 0), ("batch_size", 1), ("learning_rate", 0), ("momentum", 0), ("weight_decay", 0), ("warmup", 0)):
            if getattr(self, name) < low:
                raise SettingError(f"recipe setting {name} must be at least {low}, not {getattr(self, name)}")
        if not 0 <= self.label_smoothing <= 1:
            raise SettingError(f"recipe setting label_smoothing must lie in [0, 1], not {self.label_smoothing}")
        for name, options in (("decay", ("step", "cosine")), ("precision", ("float32", "bfloat16"))):
            if getattr(self, name) not in options:
                known = ", ".join((*options, "auto") if name == "precision" else options)  # auto is settled before a recipe is made
                raise SettingError(f"recipe setting {name} must be one of {known}, not {getattr(self, name)}")


def learning_rate(recipe: Recipe, epoch: float) -> float:
    """Learning rate at a moment of training, in epochs since its start."""
    rise = min(1.0, epoch / recipe.warmup) if recipe.warmup else 1.0
    if recipe.decay == "cosine":
        done = max(0.0, epoch - recipe.warmup) / max(1e-9, recipe.epochs - recipe.warmup)
        return recipe.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return recipe.learning_rate * rise * recipe.gamma ** sum(epoch >= m for m in recipe.milestones)


def fit(model: nn.Module, images: Images, recipe: Recipe, seed: list[int], context: Context, masks: Masks | None = None) -> list[float]:
    """Train in place and return the mean loss of every epoch; weights outside ``masks`` stay exactly 0.0.

    ``seed`` fixes order, augmentation and dropout of every epoch by itself, so a run that was cut off goes on as if it
    had not been.  Raises DataError with epoch and step at the first loss that is not finite.
    """
    images, model = im.to(images, context.device), model.to(context.device, memory_format=torch.channels_last)
    if not recipe.epochs:
        return []
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov and recipe.momentum > 0,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    held = masked_parameters(model, masks or {})
    losses = restore(model, optimiser, context.scratch.load())
    forward = torch.compile(model) if recipe.compile else model
    model.train()
    epochs = tqdm(range(len(losses), recipe.epochs), initial=len(losses), total=recipe.epochs, disable=None, unit="epoch", leave=False)
    for epoch in epochs:
        losses.append(train_epoch(forward, optimiser, images, recipe, [*seed, epoch], epoch, held))
        epochs.set_postfix(loss=f"{losses[-1]:.4f}")
        context.scratch.save(lambda: progress(model, optimiser, losses))
    if recipe.precision == "bfloat16":
        settle_constant_channels(model)
    return losses


def masked_parameters(model: nn.Module, masks: Masks) -> list[tuple[nn.Parameter, Tensor]]:
    """Pairs of a weight and its mask as 0.0 / 1.0, ready to multiply gradients."""
    modules = weighted_layers(model)
    pairs = []
    for name, mask in masks.items():
        weight = modules[name].weight
        pairs.append((weight, spread(mask, weight.ndim).to(weight.device, weight.dtype)))
    return pairs


def train_epoch(model, optimiser, images: Images, recipe: Recipe, seed: list[int], epoch: int, held) -> float:
    """One pass in random order (a last partial batch is left out) and its mean loss."""
    rng, device = np.random.default_rng(seed), images.pixels.device
    order = torch.from_numpy(rng.permutation(len(images)))
    dropout_seed = int(rng.integers(2**62))
    draws = im.draw(images, len(images), rng)
    size = min(recipe.batch_size, len(images))
    steps = len(images) // size
    order, losses = order.to(device), torch.empty(steps, device=device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(dropout_seed)  # dropout has no generator of its own
        for step in range(steps):
            batch = slice(step * size, (step + 1) * size)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(recipe, epoch + step / steps)
            pixels = im.transformed(images, order[batch], draws and tuple(d[batch] for d in draws))
            losses[step] = train_step(model, optimiser, pixels, images.labels[order[batch]], recipe, held)
    finite = losses.isfinite()
    if not finite.all():
        first = int((~finite).int().argmax())
        raise DataError(
            f"training diverged: the loss is {losses[first].item()} in epoch {epoch + 1}, step {first + 1}; lower the learning rate"
        )
    return float(losses.mean())


def train_step(model, optimiser, pixels: Tensor, labels: Tensor, recipe: Recipe, held) -> Tensor:
    """One update; gradients of masked weights are zeroed first, so weight, decay and momentum stay exactly 0.0 there."""
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        loss = nn.functional.cross_entropy(model(pixels), labels, label_smoothing=recipe.label_smoothing)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if held:
        torch._foreach_mul_([w.grad for w, _ in held], [mask for _, mask in held])
    optimiser.step()
    return loss.detach()


def progress(model: nn.Module, optimiser, losses: list[float]) -> Tensors:
    """State of a training under way: network, momentum and the losses so far."""
    momentum = {
        f"momentum/{i}": optimiser.state[p]["momentum_buffer"]
        for i, p in enumerate(model.parameters())
        if optimiser.state.get(p, {}).get("momentum_buffer") is not None
    }
    return {f"state/{k}": v for k, v in model.state_dict().items()} | momentum | {"losses": torch.tensor(losses, dtype=torch.float64)}


def restore(model: nn.Module, optimiser, saved: Tensors | None) -> list[float]:
    """Put a training back where ``progress`` found it; returns the losses so far (none without progress)."""
    if saved is None:
        return []
    model.load_state_dict({k.removeprefix("state/"): v for k, v in saved.items() if k.startswith("state/")})
    for i, p in enumerate(model.parameters()):
        if f"momentum/{i}" in saved:
            # in the weight's own memory order (channels_last): the fused update pairs them by place in memory
            optimiser.state[p]["momentum_buffer"] = torch.empty_like(p, requires_grad=False).copy_(saved[f"momentum/{i}"])
    return saved["losses"].tolist()


def evaluate(model: nn.Module, images: Images, batch_size: int = 100) -> dict[str, float] | None:
    """Accuracy (fraction) and mean cross-entropy loss in nats, in float32; None without images."""
    if not len(images):
        return None
    device = device_of(model)
    correct, loss = 0, 0.0
    with inference(model):
        for index in torch.arange(len(images)).split(batch_size):
            logits = model(im.plain(images, index).to(device)).float()
            labels = images.labels[index.to(images.labels.device)].to(device)
            correct += int((logits.argmax(1) == labels).sum())
            loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
    return {"accuracy": correct / len(images), "loss": loss / len(images)}
