"""The command line: the only module that imports Hydra."""

from __future__ import annotations

import atexit
import difflib
import json
import logging
import os
import platform
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

if TYPE_CHECKING:
    from mint_cli.experiment import Experiment

log = logging.getLogger(__name__)

SIGNAL = {
    "agreement of two halves": "agreement",
    "child effect": "child",
    "parent effect": "parent",
    "interaction": "interaction",
    "tied": "tied",
}

BY_LAYER = ("caps", "groups", "child_groups", "parent_groups")  # settings that may be a mapping from layers

HERE = Path(__file__).parent
CONF = HERE / "conf" if (HERE / "conf").is_dir() else HERE.parent / "conf"  # in a wheel; in a checkout


def main() -> None:
    """Run ``mint-run``: results on success; on bad input or a fault one sentence and exit code 1."""
    plain = os.environ.setdefault("HYDRA_FULL_ERROR", "1") == "1"  # Hydra hands errors on instead of printing them
    try:
        job()
    except KeyboardInterrupt:
        print("mint-run: interrupted; what is finished stays in the store, the same command goes on from there", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        sentence = told(error) if plain else None
        if sentence is None:
            raise
        print(f"mint-run: {sentence}", file=sys.stderr)
        sys.exit(1)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(cfg: DictConfig) -> None:
    """One job: the configuration becomes an experiment, the experiment a record."""
    folder, began = Path(HydraConfig.get().runtime.output_dir), time.time()
    write(folder / "status.json", {"state": "running"})  # stays when the job is killed
    try:
        record = carry_out(cfg)
    except Exception as error:
        write(folder / "status.json", {"state": "failed", "error": told(error) or repr(error), "seconds": time.time() - began})
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # the other jobs go on
            log.error("failed: %s", told(error) or repr(error))
        raise
    write(folder / "record.json", record)
    write(folder / "status.json", {"state": "completed", "seconds": time.time() - began})
    log.info("%s", summary(record, folder / "record.json"))


class SweepTable(Callback):
    """At the end of a sweep, however it ends, its table on stdout: rows of what is finished, jobs that are not by name."""

    def on_multirun_start(self, config: DictConfig, **settings: Any) -> None:
        from mint_cli.report import table

        atexit.register(table.main, [config.hydra.sweep.dir])


def carry_out(cfg: DictConfig) -> dict[str, Any]:
    """Build the experiment, run it on the store, and return its record."""
    import torch  # heavy: not for --help

    from mint_cli.experiment import run
    from mint_cli.store import Store

    check_machine(cfg)
    device = device_named(cfg.device)
    cfg = settled(cfg, device)
    resolved = OmegaConf.to_container(cfg, resolve=True)
    experiment = build(cfg)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
        os.environ["NUMBA_NUM_THREADS"] = str(cfg.threads)  # read when numba is first imported, later than this
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # kernels are launched on the device of the process
    choices = HydraConfig.get().runtime.choices
    names = {name: choices[name] for name in ("dataset", "model", "pruner", "schedule")}
    return {
        "schema": 1,
        **names,
        **run(experiment, Store(Path(cfg.store), device)),
        "finished": now(),
        "config": resolved,
        "environment": environment(device),
    }


class Machine:
    """The settings of where and on what a run takes place; no part of what its result is known by."""

    data: str
    store: str
    device: str
    threads: int | None


def check_machine(cfg: DictConfig) -> None:
    """SettingError for one of them that is none."""
    from mint_cli.check import check_types
    from mint_cli.errors import SettingError

    check_types("settings", Machine, {name: cfg[name] for name in Machine.__annotations__})
    if cfg.threads is not None and cfg.threads < 1:
        raise SettingError(f"threads must be null or at least 1, not {cfg.threads}")


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def settled(cfg: DictConfig, device) -> DictConfig:
    """The configuration with ``precision: auto`` replaced by what trains fast on the device, so that keys and records name it."""
    cfg = cfg.copy()
    for recipe in (cfg.schedule.train, cfg.schedule.retrain):
        if recipe and recipe.precision == "auto":
            recipe.precision = fast_precision(device)
    return cfg


def build(cfg: DictConfig) -> Experiment:
    """The experiment that a settled configuration describes; raises SettingError for what cannot be one."""
    from hydra.utils import instantiate

    from mint_cli.experiment import Experiment
    from mint_cli.stage.stages import Data

    weights = cfg.model.get("weights")
    model = {k: v for k, v in cfg.model.items_ex(resolve=False) if k != "weights"} if "weights" in cfg.model else cfg.model

    def plugin(node: Any) -> Any:
        return instantiate(node, _convert_="all")

    return Experiment(
        data=Data(plugin(cfg.dataset), Path(cfg.data)),
        model=plugin(OmegaConf.create(model, parent=cfg) if isinstance(model, dict) else model),
        weights=checkpoint_of(weights),
        skip=OmegaConf.to_object(cfg.pruner.skip) if OmegaConf.is_config(cfg.pruner.skip) else cfg.pruner.skip,
        criterion=plugin(cfg.pruner.criterion),
        allocation=plugin(cfg.pruner.allocation),
        compensation=plugin(cfg.pruner.compensation),
        batch_norm_images=cfg.pruner.batch_norm_images,
        train=plugin(cfg.schedule.train),
        rounds=cfg.schedule.rounds,
        retrain=plugin(cfg.schedule.retrain),
        seed=cfg.seed,
    )


def checkpoint_of(path: str | None):
    """The checkpoint that ``model.weights`` names, or None."""
    from mint_cli.errors import SettingError
    from mint_cli.stage.stages import Weights

    if path is None:
        return None
    if not isinstance(path, str) or not Path(path).is_file():
        raise SettingError(f"model.weights must name a checkpoint file, there is none at {path}")
    return Weights.of(path)


def device_named(name: str):
    """The device of a setting; ``auto`` is a GPU if there is one."""
    import torch

    from mint_cli.errors import SettingError

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise SettingError(f"device must be auto, cpu or cuda, not {name}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SettingError(f"device={name} needs a CUDA GPU and there is none; use device=auto or device=cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingError(f"device must name one of {torch.cuda.device_count()} GPUs, cuda:0 the first, not {name}")
    return device


def fast_precision(device) -> str:
    """bfloat16 where the device has units for it, float32 elsewhere.

    Without them every product is emulated: on a CPU with AVX2 alone bfloat16 trains ResNet56 15 times slower than
    float32 (outputs/benchmarks/training/avx2), and some CPUs fail in the backward pass.
    """
    import torch

    if device.type == "cuda":
        units = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        units = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))
    return "bfloat16" if units else "float32"


def environment(device) -> dict[str, Any]:
    """Versions, device and commit that a record carries."""
    from importlib.metadata import version

    import torch

    packages = ("torch", "numpy", "scipy", "scikit-learn", "numba", "hydra-core", "mint-cli")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        **{p: installed(version, p) for p in packages},
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "git_commit": commit(),
    }


def installed(version, package: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return version(package)
    except Exception:
        return None


def commit() -> str | None:
    """Commit of the checkout this package runs from, ``+`` behind it when files differ; None outside one."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(HERE.parent), *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not (HERE.parent / "pyproject.toml").exists():
            return None
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def write(path: Path, content: dict[str, Any]) -> None:
    """Write JSON aside and rename it into place."""
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    aside.replace(path)


def summary(record: dict[str, Any], path: Path) -> str:
    """What a user wants to see at the end of a run."""
    accuracy, sparsity, seconds, signal = (record[k] for k in ("accuracy", "sparsity", "seconds", "signal"))
    asked = "by threshold" if sparsity["asked"] is None else f"{sparsity['asked']:.4f}"
    layers = ", ".join(f"{name} {s:.3f}" for name, s in list(sparsity["layers"].items())[:20])
    noise = ", ".join(f"{name} {mean_of(signal, key)}" for name, key in SIGNAL.items())
    stages = ", ".join(f"{name} {s:.1f}" for name, s in seconds.items())
    return (
        f"{record['dataset']} {record['model']} {record['pruner']} seed {record['seed']}\n"
        f"  sparsity   asked {asked}, reached {sparsity['total']:.4f} of {record['weights']['prunable']:,} prunable weights"
        f" ({sparsity['of_all_weights']:.4f} of all {record['weights']['all']:,})\n"
        f"             {layers}\n"
        f"  accuracy   dense {accuracy['dense']:.2%}, pruned {accuracy['pruned']:.2%}, retrained {accuracy['retrained']:.2%} (test)\n"
        f"  signal     {noise}\n"
        f"  seconds    {stages}\n"
        f"  record     {path}"
    )


def mean_of(signal: dict[str, Any], key: str) -> str:
    """Mean over layers of one figure of the signal report, a dash where no layer has it."""
    values = [layer[key] for layer in signal["layers"].values() if layer[key] is not None]
    return f"{sum(values) / len(values):.2f}" if values else "–"


def told(error: BaseException) -> str | None:
    """One sentence for an error that is the user's or the machine's to mend; None for one that is ours."""
    from mint_cli.errors import sentence

    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        where = re.search(r"full_key: (\S+)", str(error))
        return re.sub(r"^recipe:? setting ", f"{where[1]}." if where else "", told(error.__cause__) or first_line(error))
    missing = error if isinstance(error, ConfigKeyError | ConfigAttributeError) else error.__cause__
    if isinstance(missing, ConfigKeyError | ConfigAttributeError) and missing.parent_node is not None:
        return unknown_setting(missing)
    if isinstance(error, MissingConfigException) and error.options:
        return f"there is no {error.missing_cfg_file}; options: {', '.join(error.options)}"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return ": ".join(str(error).strip().splitlines()[:2])
    return sentence(error)


def unknown_setting(error: OmegaConfBaseException) -> str:
    """Name the setting that does not exist and the nearest one that does."""
    known = [str(k) for k in error.parent_node]
    close = difflib.get_close_matches(str(error.key), known, n=1)
    where = str(error.full_key).removesuffix(str(error.key))
    if (parent := where.rstrip(".")).rpartition(".")[2] in BY_LAYER:
        layers = str(error.key) if parent.endswith("caps") else f"default: …, {error.key}"
        return f"there is no setting {error.full_key} yet; a layer is added by '++{parent}={{{layers}: …}}'"
    hint = f"did you mean {where}{close[0]}?" if close else f"there are {', '.join(known)}"
    if not close and {"-m", "--multirun"} & set(sys.argv):  # Hydra first composes what all jobs share, the default pruner with it
        hint += f"; a setting that only the swept choices have is written ++{error.full_key}=…"
    return f"there is no setting {error.full_key}; {hint}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return str(error).strip().splitlines()[0]


if __name__ == "__main__":
    main()
