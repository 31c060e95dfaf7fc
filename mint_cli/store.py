"""The store: finished artifacts under keys made of what they depend on; nothing half-written ever bears a name."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors import torch as safetensors

from mint_cli.protocol import Tensors

log = logging.getLogger(__name__)

FORMAT = 5  # raise it when a stage's meaning changes: every key changes with it


@dataclass(frozen=True)
class Artifact:
    """What a stage made: named tensors, metrics (JSON), and the seconds it took (not part of its identity)."""

    tensors: Tensors
    metrics: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class Step:
    """A stage and its inputs: settings, plug-ins or earlier steps.  Its key is known before anything runs."""

    stage: Callable
    inputs: tuple

    @property
    def name(self) -> str:
        return self.stage.__name__

    @cached_property
    def key(self) -> str:
        return fingerprint(self.name, *self.inputs)


def step(stage: Callable, *inputs: Any) -> Step:
    """A step not yet taken."""
    return Step(stage, inputs)


def line(last: Step) -> list[Step]:
    """All steps that a step needs and the step itself, each once, none before what it needs."""
    found: dict[str, Step] = {}

    def visit(one: Step) -> None:
        if one.key not in found:
            for needed in one.inputs:
                if isinstance(needed, Step):
                    visit(needed)
            found[one.key] = one

    visit(last)
    return list(found.values())


def describe(value: Any) -> Any:
    """Plain JSON for whatever a result depends on: plug-ins by function and settings, steps by key, dataclasses by fields.

    A dataclass field whose metadata says ``identity=False`` (a path on disk) is left out.
    """
    if isinstance(value, partial):
        return {"plug-in": f"{value.func.__module__}.{value.func.__qualname__}", "settings": describe(value.keywords)}
    if isinstance(value, Step):
        return {"step": value.key}
    if hasattr(value, "identity"):
        return {type(value).__name__: describe(value.identity())}
    if is_dataclass(value):
        kept = {f.name: describe(getattr(value, f.name)) for f in fields(value) if f.metadata.get("identity", True)}
        return {type(value).__name__: kept}
    if isinstance(value, dict):
        return {str(k): describe(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [describe(v) for v in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be part of a key")


def fingerprint(name: str, *inputs: Any) -> str:
    """Key of a stage's result: 24 hex digits of SHA-256 over the stage's name, its inputs and the store's format."""
    text = json.dumps([FORMAT, name, describe(inputs)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass
class Scratch:
    """Where a long stage leaves its progress, so that a killed run goes on; gone when the stage is done.

    ``began`` is when the stage would have begun, had it never been cut off, on the clock of ``time.perf_counter``.
    """

    path: Path
    seconds_between: float = 30.0
    began: float = field(default_factory=time.perf_counter)
    saved: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """What the stage has taken so far, in all runs that got it as far as this."""
        return time.perf_counter() - self.began

    def load(self) -> Tensors | None:
        """The progress saved last, or None; the seconds that it took count from now on."""
        try:
            tensors = safetensors.load_file(self.path)
            self.began -= float(tensors.pop("seconds"))
            return tensors
        except (SafetensorError, OSError, KeyError):
            return None  # progress is a convenience: a damaged file only costs time

    def save(self, tensors: Callable[[], Tensors]) -> None:
        """Save progress unless the last save was less than ``seconds_between`` ago."""
        if time.perf_counter() - self.saved < self.seconds_between:
            return
        aside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        spent = torch.tensor(self.seconds, dtype=torch.float64)
        try:
            write(aside, safetensors.save(contiguous(tensors() | {"seconds": spent})))
            aside.replace(self.path)
        except OSError as error:  # a run that cannot leave progress can still finish
            aside.unlink(missing_ok=True)
            log.warning("progress is not saved: %s: %s", error.filename, error.strerror)
        self.saved = time.perf_counter()


@dataclass(frozen=True)
class Context:
    """What a stage may use and its result does not depend on: a device and a place for progress."""

    device: torch.device
    scratch: Scratch


@dataclass(frozen=True)
class Store:
    """The folder of finished artifacts, ``<root>/<stage>/<key>/``."""

    root: Path
    device: torch.device

    def folder(self, step: Step) -> Path:
        return self.root / step.name / step.key

    def has(self, step: Step) -> bool:
        """Whether the step is finished (its content is checked when it is loaded)."""
        return (self.folder(step) / "checksums.json").exists()

    def get(self, step: Step) -> Artifact:
        """Load the step's artifact, or take the step; of several jobs that need it at once, one works and the others wait."""
        if (found := self._load(step, logging.DEBUG)) is not None:
            return found
        with sole_use(self.root / ".locks" / f"{step.name}-{step.key}", step.name):
            return self._load(step, logging.WARNING) or self._make(step)

    def _make(self, step: Step) -> Artifact:
        inputs = [self.get(value) if isinstance(value, Step) else value for value in step.inputs]
        scratch = Scratch(self.root / step.name / f".{step.key}.progress")
        scratch.path.parent.mkdir(parents=True, exist_ok=True)
        log.info("%s …", step.name)
        tensors, metrics = step.stage(*inputs, Context(self.device, scratch))
        artifact = Artifact(contiguous(tensors), metrics, scratch.seconds)
        log.info("%s done in %.1f s", step.name, artifact.seconds)
        self._publish(step, artifact)
        for leftover in scratch.path.parent.glob(f".{step.key}.*"):  # progress, and what killed jobs have left
            shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)
        return artifact

    def _publish(self, step: Step, artifact: Artifact) -> None:
        """Write aside, then rename: a name that exists is complete."""
        aside = self.root / step.name / f".{step.key}.{os.getpid()}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        about = {"stage": step.name, "key": step.key, "inputs": describe(step.inputs), "metrics": artifact.metrics}
        contents = {
            "tensors.safetensors": safetensors.save(artifact.tensors),
            "metrics.json": json.dumps(about, indent=1, allow_nan=False).encode(),
        }
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        contents["checksums.json"] = json.dumps(sums, indent=1, sort_keys=True).encode()
        contents["seconds.json"] = json.dumps(artifact.seconds).encode()
        try:
            for name, data in contents.items():
                write(aside / name, data)
            shutil.rmtree(self.folder(step), ignore_errors=True)  # a damaged one
            aside.rename(self.folder(step))
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise

    def _load(self, step: Step, level: int) -> Artifact | None:
        """The step's artifact, or None where there is none or a damaged one, which is logged; a disk that fails raises OSError."""
        folder = self.folder(step)
        if not folder.exists():
            return None
        try:
            return load(folder)
        except (FileNotFoundError, ValueError, KeyError, TypeError, SafetensorError) as error:
            log.log(level, "%s: artifact %s is damaged (%s) and is made anew", step.name, step.key, error)
            return None


@contextmanager
def sole_use(path: Path, name: str) -> Iterator[None]:
    """Hold a lock that the system frees when its holder dies; says so when it has to wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s: waiting for another job that makes the same artifact", name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write(path: Path, data: bytes) -> None:
    """Write a file; the OSError of a full disk bears its name too."""
    try:
        path.write_bytes(data)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def load(folder: Path) -> Artifact:
    """Read a finished artifact; raises ValueError when a file does not match its checksum."""
    sums = json.loads((folder / "checksums.json").read_text())
    data = {name: (folder / name).read_bytes() for name in ("tensors.safetensors", "metrics.json")}
    for name, content in data.items():
        if hashlib.sha256(content).hexdigest() != sums[name]:
            raise ValueError(f"{name} does not match its checksum")
    seconds = json.loads((folder / "seconds.json").read_text())
    return Artifact(safetensors.load(data["tensors.safetensors"]), json.loads(data["metrics.json"])["metrics"], float(seconds))


def contiguous(tensors: Tensors) -> Tensors:
    """The same tensors on the CPU, each with memory of its own in plain order, as safetensors wants them."""
    return {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
