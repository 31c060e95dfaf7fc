"""``mint-export``: the network of a finished run as a file of its own, with a model card
beside it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mint_cli.data.files import read as read_file
from mint_cli.errors import DataError, sentence
from mint_cli.families import function

MOST = 2**26  # bytes of a record
ONNX = ("onnx", "onnxscript", "onnxruntime")  # what format onnx needs
CLOSE = 1e-4  # most that its outputs may differ by, relative to the largest logit
ENDINGS = {"packed": ".mint.safetensors", "torch": ".pt2", "onnx": ".onnx"}


def main(arguments: list[str] | None = None) -> int:
    """Write what a run has made: 0, or 1 and one sentence."""
    parser = argparse.ArgumentParser(prog="mint-export", description=__doc__.partition(": ")[2])
    parser.add_argument(
        "run", type=Path, help="the folder of a finished run, which holds record.json"
    )
    parser.add_argument("--format", choices=ENDINGS, default="packed")
    parser.add_argument(
        "--output", type=Path, help="the file to write (default: beside the record)"
    )
    parser.add_argument(
        "--model",
        metavar="MODULE.FUNCTION",
        help="for torch and onnx: what builds your own network",
    )
    given = parser.parse_args(arguments)
    try:
        model = given.model and own(given.model)
        print(export(given.run, given.format, given.output, model))
        return 0
    except Exception as error:
        told = sentence(error)
        if told is None:
            raise
        print(f"mint-export: {told}", file=sys.stderr)
        return 1


def own(name: str) -> Callable:
    """The function of that name, of a module in the current folder or an installed one."""
    sys.path.append(str(Path.cwd()))
    return function(name, "model", "--model")


def export(run: Path, kind: str, output: Path | None, model: Callable | None = None) -> Path:
    """Write the network of a run; returns the file's path.

    ``model`` builds a network of one's own, which the formats torch and onnx need.
    """
    if kind == "onnx" and not all(importlib.util.find_spec(name) for name in ONNX):
        raise DataError(f"format onnx needs {', '.join(ONNX)}: pip install 'mint-cli[onnx]'")
    record = read(run / "record.json")
    try:
        artifact = stored(record, run)
        about = described(record, artifact)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{run / 'record.json'} is no whole record: it lacks {error}") from error
    path = output or run / f"network{ENDINGS[kind]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    from mint_cli import packed
    from mint_cli.stage.common import part

    parts = (part(name, artifact) for name in ("state", "rows", "columns", "gone"))
    content = packed.pack(about, *parts)
    if kind == "packed":
        written(path, content)
    else:
        aside = path.with_name(f"{path.stem}.part{path.suffix}")
        try:
            written(aside, content)
            network = packed.load(aside, model)
            exported(network, about["shape"], kind, aside)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    written(path.with_suffix(".md"), card(record, path, kind).encode())
    return path


def read(path: Path) -> dict[str, Any]:
    """A record; DataError where there is none."""
    try:
        record = json.loads(read_file(path, MOST))
    except ValueError as error:
        raise DataError(f"{path} is no record of a finished run: {error}") from error
    if not isinstance(record, dict) or record.get("schema") != 2:
        raise DataError(f"{path} is no record of schema 2, which this mint-export reads")
    return record


def stored(record: dict[str, Any], run: Path):
    """The artifact of the network that a run ended with, from the store that its record names."""
    from mint_cli.store import load

    stage = "shrink" if record["artifacts"].get("shrink") else "retrain"
    store = Path(record["config"]["store"])
    starts = (Path(), *run.resolve().parents)  # where a relative store may begin
    places = (start / store / stage / record["artifacts"][stage] for start in starts)
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        looked = (
            "" if store.is_absolute() else " (looked for here and in the folders above the run)"
        )
        here = f"the store {store} no longer holds the network of {run}{looked}"
        raise DataError(f"{here}; the same command makes it again")
    try:
        return load(folder)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{folder} is damaged ({error}); the same command mends it") from error


def described(record: dict[str, Any], artifact) -> dict[str, Any]:
    """How to build the network, and where it comes from."""
    model = dict(record["config"]["model"])
    target = model.pop("_target_")
    model.pop("_partial_", None)
    history = ("dataset", "pruner", "seed", "sparsity", "accuracy", "artifacts")
    return {
        "model": target,
        "settings": model,
        "shape": record["images"]["shape"],
        "classes": record["images"]["classes"],
        "history": {name: record[name] for name in history},
    }


def exported(network, shape: list[int], kind: str, path: Path) -> None:
    """Write a torch.export program or an ONNX file, and check it against the network."""
    import torch

    example, x = torch.rand(2, *shape), torch.rand(5, *shape)
    sizes = {"dynamic_shapes": ({0: torch.export.Dim("batch", min=1)},)}
    if kind == "torch":
        torch.export.save(torch.export.export(network, (example,), **sizes), path)
        found = torch.export.load(path).module()(x)
    else:
        import onnxruntime

        settings = {"dynamo": True, "external_data": False, "verbose": False}
        torch.onnx.export(network, (example,), path, **settings, **sizes)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    with torch.no_grad():
        wanted = network(x)
    off = float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))
    if not off <= CLOSE:
        raise DataError(f"outputs of the {kind} file differ by {off:.1e} of the largest logit")


def written(path: Path, content: bytes) -> None:
    """Write aside and rename into place."""
    aside = path.with_name(f"{path.name}.part")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        error.filename = error.filename or str(path)
        raise


def card(record: dict[str, Any], path: Path, kind: str) -> str:
    """A model card in Markdown: data, accuracy, size, how it was made, how to load it."""
    from mint_cli.packed import MODELS

    accuracy = ", ".join(f"{name} {value:.2%}" for name, value in record["accuracy"].items())
    foreign = not record["config"]["model"]["_target_"].startswith(MODELS)
    arguments = f'"{path.name}"' + (", model=…" if foreign else "")  # the function that builds it
    loads = {
        "packed": f"import mint_cli\nnetwork = mint_cli.load({arguments})  # pixels in [0, 1]",
        "torch": f'import torch\nnetwork = torch.export.load("{path.name}").module()',
        "onnx": f'import onnxruntime\nsession = onnxruntime.InferenceSession("{path.name}")',
    }[kind]
    before, now = record["cost"]["dense"], record["cost"].get("shrunken")
    size = (
        f"* parameters {before['parameters']:,} before, {now['parameters']:,} now\n"
        f"* multiply-accumulates an image (convolutions and matrix products) "
        f"{before['macs']:,} before, {now['macs']:,} now\n"
        f"* milliseconds for 128 images {milliseconds(before)} before, {milliseconds(now)} now "
        f"({record['cost']['device']}, threads: {record['cost']['threads']})\n"
        if now
        else ""
    )
    return (
        f"# {record['model']} on {record['dataset']}, pruned by {record['pruner']}\n\n"
        f"* test accuracy: {accuracy}\n"
        f"* {record['sparsity']['of_all_weights']:.2%} of all convolution and linear weights "
        "removed\n"
        f"{size}"
        f"* seed {record['seed']}; images of shape {tuple(record['images']['shape'])}, "
        f"{record['images']['classes']} classes\n"
        f"* made by {making(record)}\n\n"
        f"```python\n{loads}\n```\n"
    )


def making(record: dict[str, Any]) -> str:
    """How the network was made: plug-ins, amount, retraining, and the file that it began as."""
    pruner, retrain = record["config"]["pruner"], record["config"]["schedule"]["retrain"]
    kinds = ("granularity", "criterion", "allocation", "compensation")
    named = (f"{kind} {pruner[kind]['_target_'].rpartition('.')[2]}" for kind in kinds)
    start = (
        f"; it began as a file of SHA-256 {record['checkpoint']}" if record["checkpoint"] else ""
    )
    asked = record["sparsity"]["asked"]
    amount = "as much as the allocation chose" if asked is None else f"{asked} of {pruner['of']}"
    return f"{', '.join(named)}: {amount}; {retrain['epochs']} epochs of retraining{start}"


def milliseconds(cost: dict[str, Any]) -> str:
    """Median time for a batch of 128 images."""
    return f"{cost['latency']['batch_128']['median']:.1f}"


if __name__ == "__main__":
    sys.exit(main())
