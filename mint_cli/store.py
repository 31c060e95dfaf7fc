"""The store: finished artifacts under keys made of what they depend on.

A name that exists is complete: everything is written aside and renamed.  What is damaged, or lies
under another's name, is noticed and made anew; progress only ever saves time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors

from mint_cli import files, source
from mint_cli.errors import DataError
from mint_cli.files import METRICS, SECONDS, SUMS, TENSORS
from mint_cli.protocol import Tensors

log = logging.getLogger(__name__)

FORMAT = 6  # raise it when the meaning of every key changes; versioned() is for a single stage
DAMAGE = (ValueError, KeyError, TypeError, RecursionError, SafetensorError)  # of what is read


@dataclass(frozen=True)
class Artifact:
    """Named tensors, metrics (JSON) and the seconds they took (not part of the identity)."""

    tensors: Tensors
    metrics: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class Step:
    """A stage and its inputs: settings, plug-ins or earlier steps; its key is known beforehand."""

    stage: Callable
    inputs: tuple

    @property
    def name(self) -> str:
        return self.stage.__name__

    @cached_property
    def key(self) -> str:
        return fingerprint(self.name, getattr(self.stage, "version", 1), *self.inputs)


def step(stage: Callable, *inputs: Any) -> Step:
    """A step not yet taken."""
    return Step(stage, inputs)


def versioned(number: int) -> Callable[[Callable], Callable]:
    """Decorator of a stage: raise the number when what it makes changes; keys of others stay."""

    def attach(stage: Callable) -> Callable:
        stage.version = number
        return stage

    return attach


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
    """Plain JSON for whatever a result depends on.

    Plug-ins by name, settings and code; steps by key; dataclasses by what their method ``identity``
    returns, else by fields (those whose metadata says ``identity=False`` left out) and, if they are
    none of this package's, by code too.
    """
    if isinstance(value, partial):
        name, settings = source.qualified_name(value.func), value.keywords
        settings = {**dict(enumerate(value.args)), **settings}
        return {"plug-in": name, "settings": describe(settings), "code": source.digest(value.func)}
    if isinstance(value, Step):
        return {"step": value.key}
    if hasattr(value, "identity"):
        return {type(value).__name__: describe(value.identity())}
    if is_dataclass(value):
        kept = [f.name for f in fields(value) if f.metadata.get("identity", True)]
        described = {type(value).__name__: {name: describe(getattr(value, name)) for name in kept}}
        foreign = not source.is_ours(type(value).__module__)
        return described | ({"code": source.digest(type(value))} if foreign else {})
    if isinstance(value, dict):
        return {str(k): describe(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [describe(v) for v in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be part of a key")


def fingerprint(name: str, version: int, *inputs: Any) -> str:
    """Key of a stage's result: 24 hex digits of SHA-256 over the stage, its version and inputs."""
    text = json.dumps([FORMAT, name, version, describe(inputs)], sort_keys=True)
    return sha256(text.encode())[:24]


@dataclass
class Scratch:
    """Where a long stage leaves its progress, so that a killed run goes on; gone when it is done.

    Each file is sealed with the step's ``key``: one that is damaged or another's costs only time.
    ``before`` are the seconds that earlier runs had spent when they saved last.
    """

    path: Path
    seconds_between: float = 30.0  # of save; infinite: nothing is written
    key: str = ""
    before: float = 0.0
    began: float = field(default_factory=time.perf_counter)
    saved: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """What the stage has taken so far, in all runs that got it as far as this."""
        return self.before + time.perf_counter() - self.began

    def load(self, like: Tensors | None = None) -> Tensors | None:
        """The progress saved last, or None; also where it lacks a tensor of ``like``'s shapes."""
        return self._read(self.path, self.key, like or {})

    def save(self, tensors: Callable[[], Tensors]) -> None:
        """Save progress unless the last save was less than ``seconds_between`` ago."""
        if time.perf_counter() - self.saved >= self.seconds_between:
            self._write(self.path, self.key, contiguous(tensors()))
            self.saved = time.perf_counter()

    def once(self, name: str, make: Callable[[], Tensors]) -> Tensors:
        """A finished part of the stage, on the CPU: what an earlier run saved of it, or made now.

        Nothing later may depend on whether ``make`` ran: random numbers it draws are its own.
        """
        key = f"{self.key}/{name}"
        path = self.path.with_name(f"{self.path.name}-{sha256(name.encode())[:16]}")
        if (saved := self._read(path, key)) is not None:
            return saved
        made = contiguous(make())
        self._write(path, key, made)
        return made

    def _read(self, path: Path, key: str, like: Tensors | None = None) -> Tensors | None:
        if not os.path.lexists(path):
            return None
        try:
            spent, data = unsealed(key, files.read(path))
            tensors = safetensors.load(data)
            for name, wanted in (like or {}).items():
                if name not in tensors or tensors[name].shape != wanted.shape:
                    raise ValueError(f"{name} does not fit")
        except (SafetensorError, OSError, ValueError) as error:
            log.warning("progress is ignored: %s: %s", path, error)
            return None
        self.before = max(self.before, spent)
        return tensors

    def _write(self, path: Path, key: str, tensors: Tensors) -> None:
        if self.seconds_between == math.inf:
            return
        try:
            files.put(path, sealed(key, self.seconds, safetensors.save(tensors)))
        except OSError as error:  # a run that cannot leave progress can still finish
            log.warning("progress is not saved: %s: %s", error.filename, error.strerror)


def sealed(key: str, seconds: float, data: bytes) -> bytes:
    """Progress with a checksum over the key it belongs to, the seconds it took and its content."""
    content = struct.pack("<d", seconds) + data
    return hashlib.sha256(key.encode() + content).digest() + content


def unsealed(key: str, data: bytes) -> tuple[float, bytes]:
    """Seconds and content of sealed progress; ValueError when it is damaged or another's."""
    if len(data) < 40 or hashlib.sha256(key.encode() + data[32:]).digest() != data[:32]:
        raise ValueError("it is damaged or belongs to another step")
    (seconds,) = struct.unpack("<d", data[32:40])
    if not 0 <= seconds < math.inf:
        raise ValueError(f"it took {seconds} seconds")
    return seconds, data[40:]


@dataclass(frozen=True)
class Context:
    """What a stage may use and its result does not depend on: a device, a place for progress."""

    device: torch.device
    scratch: Scratch


@dataclass(frozen=True)
class Store:
    """The folder of finished artifacts, ``<root>/<stage>/<key>/``.

    Where several ranks take the same steps in the same order, only rank 0 locks and writes; the
    others wait until it has published, without a lock.  Where ``agree`` gives all of them rank 0's
    answer, whether the step is to be taken, the others take it too, in step with rank 0, if its
    stage says ``collective = True``; they write nothing.
    """

    root: Path
    device: torch.device
    rank: int = 0
    agree: Callable[[bool], bool] = bool

    def folder(self, step: Step) -> Path:
        return self.root / step.name / step.key

    def has(self, step: Step) -> bool:
        """Whether the step is finished (its content is checked when it is loaded)."""
        return files.is_finished(self.folder(step))

    def get(self, step: Step) -> Artifact:
        """Load the step's artifact, or take the step, of several jobs that need it at once one."""
        if self.rank:
            return self._follow(step)
        found = self._load(step, logging.WARNING)
        if found is None:
            lock = self.root / ".locks" / f"{step.name}-{step.key}"
            with files.sole_use(lock, step.name, lambda: self._load(step) is not None):
                if (found := self._load(step)) is None:
                    self.agree(True)
                    return self._make(step)
        self.agree(False)
        return found

    def _follow(self, step: Step) -> Artifact:
        """What rank 0 publishes."""
        if self.agree(False):
            inputs = self._inputs(step)
            if getattr(step.stage, "collective", False):
                step.stage(*inputs, Context(self.device, self._scratch(step, math.inf)))
        while (found := self._load(step)) is None:
            time.sleep(0.1)
        return found

    def _inputs(self, step: Step) -> list[Any]:
        return [self.get(value) if isinstance(value, Step) else value for value in step.inputs]

    def _scratch(self, step: Step, seconds_between: float = 30.0) -> Scratch:
        return Scratch(self.root / step.name / f".{step.key}.progress", seconds_between, step.key)

    def _make(self, step: Step) -> Artifact:
        inputs, folder = self._inputs(step), self.folder(step)
        with files.named(folder):  # a store that cannot be written is told before the work
            aside = files.beside(folder)
            aside.mkdir(parents=True)
            aside.rmdir()
        files.tidy(folder.parent)
        scratch = self._scratch(step)
        log.info("%s …", step.name)
        tensors, metrics = step.stage(*inputs, Context(self.device, scratch))
        artifact = Artifact(contiguous(tensors), metrics, scratch.seconds)
        log.info("%s done in %.1f s", step.name, artifact.seconds)
        self._publish(step, artifact)
        files.tidy(folder.parent)
        return artifact

    def _publish(self, step: Step, artifact: Artifact) -> None:
        """Write aside, then rename: a name that exists is complete."""
        folder = self.folder(step)
        aside = files.beside(folder)
        try:
            with files.named(aside):
                aside.mkdir()
            for name, data in contents(step, artifact).items():
                files.write(aside / name, data)
            try:
                aside.rename(folder)
            except OSError:  # the name is taken: by a job without a lock, or by what is damaged
                if self._load(step) is None:
                    files.remove(folder)
                    with files.named(folder):
                        aside.rename(folder)
        finally:
            files.remove(aside)

    def _load(self, step: Step, level: int = logging.DEBUG) -> Artifact | None:
        """The step's artifact, or None where there is none or none that is whole, which is logged.

        A disk that fails raises OSError.
        """
        folder = self.folder(step)
        if not os.path.lexists(folder):
            return None
        try:
            return load(folder)
        except DAMAGE as error:
            text = "%s: artifact %s is damaged (%s) and is made anew"
            log.log(level, text, step.name, step.key, error)
            return None


def contents(step: Step, artifact: Artifact) -> dict[str, bytes]:
    """The files of an artifact; DataError where a metric is no finite number."""
    about = {"stage": step.name, "key": step.key, "inputs": describe(step.inputs)}
    try:
        about_and_metrics = encoded(about | {"metrics": artifact.metrics})
    except ValueError:
        raise DataError(f"{step.name} has measured a number that is not finite") from None
    made = {TENSORS: safetensors.save(artifact.tensors), METRICS: about_and_metrics}
    sums = encoded({name: sha256(data) for name, data in made.items()})
    return made | {SECONDS: encoded(stamped(artifact.seconds)), SUMS: sums}


def stamped(seconds: float) -> dict[str, Any]:
    """Seconds with a checksum of their own: those of the other files are the same in every run."""
    return {"seconds": seconds, "sha256": sha256(repr(seconds).encode())}


def load(folder: Path) -> Artifact:
    """Read a finished artifact from ``<stage>/<key>``.

    ValueError (KeyError, TypeError, RecursionError) when a file is missing or does not match its
    checksum, or when it is the artifact of another step.
    """
    sums = json.loads(files.read(folder / SUMS))
    found = {name: files.read(folder / name) for name in (TENSORS, METRICS, SECONDS)}
    for name in (TENSORS, METRICS):
        if sha256(found[name]) != sums[name]:
            raise ValueError(f"{name} does not match its checksum")
    taken = json.loads(found[SECONDS])
    if not isinstance(taken, dict) or taken != stamped(taken.get("seconds")):
        raise ValueError(f"{SECONDS} does not match its checksum")
    about = json.loads(found[METRICS])
    if (about["stage"], about["key"]) != (folder.parent.name, folder.name):
        raise ValueError(f"it is {about['stage']} {about['key']}")
    return Artifact(safetensors.load(found[TENSORS]), about["metrics"], taken["seconds"])


def encoded(value: Any) -> bytes:
    """JSON of finite numbers; ValueError for others."""
    return json.dumps(value, indent=1, allow_nan=False).encode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def contiguous(tensors: Tensors) -> Tensors:
    """The same tensors on the CPU, each with memory of its own in plain order, for safetensors."""
    return {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
