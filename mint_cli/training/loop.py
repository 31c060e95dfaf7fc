"""The only training loop, and prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from mint_cli.data import images as im
from mint_cli.errors import DataError
from mint_cli.network.layers import device_of, differentiated, inference, spread
from mint_cli.network.observe import settle_constant_channels
from mint_cli.protocol import Images, Masks, Tensors
from mint_cli.store import Context
from mint_cli.training.recipe import Recipe, learning_rate

Views = Callable[[Images, list[Tensor], im.Draws], Iterator[Tensor]]  # as ``images.views``


def fit(
    model: nn.Module,
    images: Images,
    recipe: Recipe,
    seed: list[int],
    context: Context,
    masks: Masks | None = None,
    views: Views = im.views,
) -> list[float]:
    """Train in place and return the mean loss of every epoch; weights outside ``masks`` stay
    exactly 0.0.

    ``views`` gives what enters the model for one batch of images after another.

    ``seed`` fixes order, augmentation and dropout of every epoch by itself, so a run that was cut
    off goes on as if it had not been.  Raises DataError with epoch and step at the first loss that
    is not finite.
    """
    images, model = (
        im.to(images, context.device),
        model.to(context.device, memory_format=torch.channels_last),
    )
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
    epochs = tqdm(
        range(len(losses), recipe.epochs),
        initial=len(losses),
        total=recipe.epochs,
        disable=None,
        unit="epoch",
        leave=False,
    )
    for epoch in epochs:
        losses.append(
            train_epoch(forward, optimiser, images, recipe, [*seed, epoch], epoch, held, views)
        )
        epochs.set_postfix(loss=f"{losses[-1]:.4f}")
        context.scratch.save(lambda: progress(model, optimiser, losses))
    if recipe.precision == "bfloat16":
        settle_constant_channels(model)
    return losses


def masked_parameters(model: nn.Module, masks: Masks) -> list[tuple[nn.Parameter, Tensor]]:
    """Pairs of a parameter that is trained and its mask as 0.0 / 1.0, ready to multiply
    gradients.
    """
    pairs = ((model.get_parameter(name), mask) for name, mask in masks.items())
    return [(p, spread(mask, p.ndim).to(p.device, p.dtype)) for p, mask in pairs if p.requires_grad]


def train_epoch(
    model,
    optimiser,
    images: Images,
    recipe: Recipe,
    seed: list[int],
    epoch: int,
    held,
    views: Views,
) -> float:
    """One pass in random order (a last partial batch is left out) and its mean loss."""
    rng, device = np.random.default_rng(seed), images.pixels.device
    order = torch.from_numpy(rng.permutation(len(images)))
    dropout_seed = int(rng.integers(2**62))
    draws = im.draw(images, len(images), rng)
    size = min(recipe.batch_size, len(images))
    steps = len(images) // size
    batches = list(order[: steps * size].to(device).split(size))
    draws = draws and tuple(drawn[: steps * size] for drawn in draws)
    losses = torch.empty(steps, device=device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(dropout_seed)  # dropout has no generator of its own
        for step, entering in enumerate(views(images, batches, draws)):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(recipe, epoch + step / steps)
            losses[step] = train_step(
                model, optimiser, entering, images.labels[batches[step]], recipe, held
            )
    finite = losses.isfinite()
    if not finite.all():
        first = int((~finite).int().argmax())
        raise DataError(
            f"training diverged: the loss is {losses[first].item()} in epoch {epoch + 1}, "
            f"step {first + 1}; lower the learning rate"
        )
    return float(losses.mean())


def train_step(model, optimiser, entering: Tensor, labels: Tensor, recipe: Recipe, held) -> Tensor:
    """One update; gradients of masked weights are zeroed first, so weight, decay and momentum stay
    exactly 0.0 there.
    """
    with torch.autocast(
        entering.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"
    ):
        loss = nn.functional.cross_entropy(
            model(entering), labels, label_smoothing=recipe.label_smoothing
        )
    optimiser.zero_grad(set_to_none=True)
    with differentiated():
        loss.backward()
    used = [
        (w.grad, mask) for w, mask in held if w.grad is not None
    ]  # the forward pass may leave some out
    if used:
        torch._foreach_mul_(*map(list, zip(*used, strict=True)))
    optimiser.step()
    return loss.detach()


def progress(model: nn.Module, optimiser, losses: list[float]) -> Tensors:
    """State of a training under way: network, momentum and the losses so far."""
    momentum = {
        f"momentum/{i}": optimiser.state[p]["momentum_buffer"]
        for i, p in enumerate(model.parameters())
        if optimiser.state.get(p, {}).get("momentum_buffer") is not None
    }
    return (
        {f"state/{k}": v for k, v in model.state_dict().items()}
        | momentum
        | {"losses": torch.tensor(losses, dtype=torch.float64)}
    )


def restore(model: nn.Module, optimiser, saved: Tensors | None) -> list[float]:
    """Put a training back where ``progress`` found it; returns the losses so far (none without
    progress).
    """
    if saved is None:
        return []
    model.load_state_dict(
        {k.removeprefix("state/"): v for k, v in saved.items() if k.startswith("state/")}
    )
    for i, p in enumerate(model.parameters()):
        if f"momentum/{i}" in saved:
            # in the weight's own memory order (channels_last): the fused update pairs them by place
            # in memory
            optimiser.state[p]["momentum_buffer"] = torch.empty_like(p, requires_grad=False).copy_(
                saved[f"momentum/{i}"]
            )
    return saved["losses"].tolist()


def predict(model: nn.Module, images: Images, batch_size: int = 100) -> tuple[Tensor, float]:
    """The class that every image is given, int64 (n,) on the CPU, and the mean cross-entropy loss
    in nats, in float32.
    """
    device = device_of(model)
    found, loss = [], 0.0
    with inference(model):
        every = torch.arange(len(images)).split(batch_size)
        for index, pixels in zip(every, im.plains(images, every), strict=True):
            logits = model(pixels.to(device)).float()
            labels = images.labels[index.to(images.labels.device)].to(device)
            found.append(logits.argmax(1).cpu())
            loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
    return torch.cat(found), loss / len(images)
