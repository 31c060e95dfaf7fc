"""The machine that a run takes place on: device, precision, threads, versions."""

from __future__ import annotations

import atexit
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mint_cli.errors import SettingError

if TYPE_CHECKING:
    import torch

HERE = Path(__file__).parent
MOST_THREADS = 256
SMALL = 2e7  # weights times pixels of an image up to which a second thread gains nothing
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "numba", "hydra-core", "mint-cli")


def prepare() -> None:
    """Set what libraries read from the process once, before any heavy one is imported.

    Output streams never fail on a character they do not know.  Threads that wait sleep: threads
    that spin make a run 25 times slower beside another busy process (320 s for 13 s).  numba's
    compiled functions are kept in a folder that can be written.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    if "NUMBA_CACHE_DIR" not in os.environ and not any(
        writable(folder) for folder in numba_folders()
    ):
        folder = tempfile.mkdtemp(prefix="mint-cli-numba-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["NUMBA_CACHE_DIR"] = folder


def numba_folders() -> list[Path]:
    """Where numba keeps compiled functions of the package: beside them, or in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return [HERE / "kernel" / "__pycache__", Path(cache) / "numba"]


def writable(folder: Path) -> bool:
    """Whether a file can be made in the folder, which is made where there is none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def device_named(name: str) -> torch.device:
    """The device of a setting; ``auto`` is a GPU if there is one."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if (
        device is None
        or device.type not in ("cpu", "cuda")
        or (device.type == "cpu" and device.index)
    ):
        raise SettingError("device", "must be auto, cpu, cuda or cuda:0, cuda:1, …", name)
    if device.type == "cuda" and not torch.cuda.is_available():
        hint = "use device=auto or device=cpu"
        raise SettingError("device", "must be cpu where there is no CUDA GPU", name, hint)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        bound = f"must name one of {torch.cuda.device_count()} GPUs, cuda:0 the first"
        raise SettingError("device", bound, name)
    return device


def fast_precision(device: torch.device) -> str:
    """bfloat16 where the device has units for it, float32 elsewhere.

    Without them every product is emulated: on a CPU with AVX2 alone bfloat16 trains ResNet56 15
    times slower than float32 (outputs/benchmarks/training/avx2), and some CPUs fail in the backward
    pass.
    """
    import torch

    if device.type == "cuda":
        units = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        units = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))
    return "bfloat16" if units else "float32"


def cores(limit: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """CPU cores that this process may use: those it is bound to, fewer if a container has a quota.

    ``limit`` is the file of the quota: microseconds of CPU time in so many, or ``max``.
    """
    bound = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:
        quota, period = limit.read_text().split()
        return max(1, min(bound, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or no quota
        return bound


def threads_for(weights: int, pixels: int, available: int) -> int:
    """Threads that suit a network of so many weights on images of so many pixels, all channels.

    One for small networks, digits and their multi-layer perceptron among them: their products take
    less time than waking a second thread.  All that are available otherwise.
    """
    return 1 if weights * pixels <= SMALL else min(available, MOST_THREADS)


def check_threads(threads: int) -> None:
    """SettingError for a number of threads that no machine has."""
    most = max(MOST_THREADS, os.cpu_count() or 1)
    if not 1 <= threads <= most:
        raise SettingError("threads", f"must be null or lie between 1 and {most}", threads)


def use(device: torch.device, threads: int) -> None:
    """Let this process compute on the device, with so many threads of the CPU."""
    import torch

    torch.set_num_threads(threads)
    # Read when numba is imported: with more threads than torch has its loops raise torch's own
    # number
    # in passing.  Afterwards it must not change, numba refuses to compile then; kernel.threads puts
    # torch's number back in either case.
    if "numba" not in sys.modules:
        os.environ.setdefault("NUMBA_NUM_THREADS", str(threads))
    if "mint_cli.kernel.cpu" in sys.modules:
        sys.modules["mint_cli.kernel.cpu"].use_threads(threads)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # kernels are launched on the device of the process


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, device and commit that a record carries."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "git_commit": commit(),
    }


def version(package: str) -> str | None:
    """Version of an installed package, or None."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Commit of the checkout that the package runs from, ``+`` if files differ; or None."""
    if not (HERE.parent / "pyproject.toml").exists():
        return None
    try:
        return git("rev-parse", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def git(*arguments: str) -> str:
    """What a git command about the checkout prints."""
    command = ["git", "-C", str(HERE.parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
