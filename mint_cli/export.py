"""``mint-export``: the network of a finished run as a file of its own, with a model card beside it."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from mint_cli.data.files import read as read_file
from mint_cli.errors import DataError, sentence

MOST = 2**26  # bytes of a record
ONNX = ("onnx", "onnxscript", "onnxruntime")  # what format onnx needs
ENDINGS = {"packed": ".mint.safetensors", "torch": ".pt2", "onnx": ".onnx"}


def main(arguments: list[str] | None = None) -> int:
    """Write what a run has made: 0, or 1 and one sentence."""
    parser = argparse.ArgumentParser(prog="mint-export", description=__doc__.partition(": ")[2])
    parser.add_argument("run", type=Path, help="the folder of a finished run, which holds record.json")
    parser.add_argument("--format", choices=ENDINGS, default="packed")
    parser.add_argument("--output", type=Path, help="the file to write (default: beside the record)")
    given = parser.parse_args(arguments)
    try:
        print(export(given.run, given.format, given.output))
        return 0
    except Exception as error:
        told = sentence(error)
        if told is None:
            raise
        print(f"mint-export: {told}", file=sys.stderr)
        return 1


def export(run: Path, kind: str, output: Path | None) -> Path:
    """Write the network of a run; returns the file's path."""
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

    parts = (part(name, artifact) for name in ("state", "rows", "columns"))
    content = packed.pack(about, *parts)
    if kind == "packed":
        written(path, content)
    else:
        aside = path.with_name(f"{path.stem}.part{path.suffix}")
        try:
            written(aside, content)
            network = packed.load(aside)
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
        looked = "" if store.is_absolute() else " (looked for here and in the folders above the run)"
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

    x = torch.rand(2, *shape)
    batch = torch.export.Dim("batch", min=1)
    if kind == "torch":
        program = torch.export.export(network, (x,), dynamic_shapes=({0: batch},))
        torch.export.save(program, path)
        return
    import onnxruntime

    sizes = {"dynamic_shapes": ({0: batch},), "external_data": False}
    torch.onnx.export(network, (x,), path, dynamo=True, **sizes)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        wanted = network(x)
    off = float((torch.from_numpy(found) - wanted).abs().max() / wanted.abs().max())
    if off > 1e-4:
        raise DataError(f"onnxruntime's outputs differ by {off:.1e} of the largest logit")


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
    accuracy = ", ".join(f"{name} {value:.2%}" for name, value in record["accuracy"].items())
    loads = {
        "packed": f'import mint_cli\nnetwork = mint_cli.load("{path.name}")  # takes pixels in [0, 1]',
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
        f"* {record['sparsity']['of_all_weights']:.2%} of all convolution and linear weights removed\n{size}"
        f"* seed {record['seed']}; images of shape {tuple(record['images']['shape'])}, "
        f"{record['images']['classes']} classes\n\n"
        f"```python\n{loads}\n```\n"
    )


def milliseconds(cost: dict[str, Any]) -> str:
    """Median time for a batch of 128 images."""
    return f"{cost['latency']['batch_128']['median']:.1f}"


if __name__ == "__main__":
    sys.exit(main())
