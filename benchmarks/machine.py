"""What the benchmarks share: the machine, processor time, peak memory, processes, files."""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numba
import torch


def processors() -> list[str]:
    """The model of every core, as Linux names it; nothing elsewhere."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return [line.split(":")[1].strip() for line in lines if line.startswith("model name")]


def environment(*packages: str) -> dict[str, str]:
    """Versions of Python and of packages, and the processor."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    return versions | {"processor": (processors() or [platform.machine()])[0]}


def one_core() -> None:
    """Keep numba and torch to one thread."""
    numba.set_num_threads(1)
    torch.set_num_threads(1)


def repeated(times: int, work: Callable[[], Any]) -> list[float]:
    """Seconds of processor time of every run, after one to compile and warm up."""
    work()
    found = []
    for _ in range(times):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return found


def spread(values: list[float]) -> float:
    """How far the slowest run lies above the fastest, as a share of the fastest."""
    return max(values) / min(values) - 1


def peak_mib() -> float:
    """Peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def alone(module: str, *arguments: str) -> Any:
    """What ``python -m module arguments`` prints last, as JSON; peaks and threads are its own."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def write(folder: Path, name: str, found: dict[str, Any], text: str | None = None) -> None:
    """Write ``name.json`` and, if there is a text, ``name.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    if text is not None:
        (folder / f"{name}.md").write_text(text)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]) + "\n"
