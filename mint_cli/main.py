"""The commands."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import time
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mint_cli import commandline, files, machine
from mint_cli.commandline import CHOICES, CONF, Outputs, message
from mint_cli.report.summary import summary

log = logging.getLogger(__name__)

INTERRUPTED = (
    "interrupted; what is finished stays in the store, the same command goes on from there"
)


def main() -> None:
    """``mint-run``: results on success; on bad input or a fault one sentence and exit code 1."""
    machine.prepare()
    logging.raiseExceptions = False  # a log that cannot be written stops nothing
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra hands errors on instead of printing them
    failures: list[str] = []

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def job(cfg: DictConfig) -> None:
        failures.extend(attempt(cfg))

    try:
        typed, folders = commandline.arguments(sys.argv[1:])
        sys.argv[1:] = typed
        commandline.look_first_in(folders)
        job()
    except KeyboardInterrupt:
        print(f"mint-run: {INTERRUPTED}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if (
            isinstance(error, OSError) and error.filename is None
        ):  # Hydra's own files on a full disk
            error.filename = Outputs.folder
        fail(described(error))
    if failures:
        fail(
            failures[0]
            if len(failures) == 1
            else f"{len(failures)} jobs failed, the first: {failures[0]}"
        )


def fail(text: str) -> None:
    """Say why on stderr and leave."""
    print(f"mint-run: {text}", file=sys.stderr)
    sys.exit(1)


def described(error: BaseException) -> str:
    """A sentence for an error; one that is no user's to mend is shown whole before."""
    told = message(error, sys.argv[1:])
    if told is None:
        traceback.print_exception(error)
    return told or f"{type(error).__name__}: {error}"


def attempt(cfg: DictConfig) -> list[str]:
    """Carry out one job, keep its record and how it ended; returns why it failed, if it did."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        record = recorded(cfg, folder)
        log.info("%s", summary(record, folder / "record.json", control(HydraConfig.get())))
    except (Exception, SystemExit) as error:
        told = described(error)
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # the other jobs go on
            log.error("failed: %s", told)
        return [told]
    return []


def recorded(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Carry out one job; its record, which is kept in ``folder`` beside how the job ended."""
    began = time.time()

    def status(state: str, **more: Any) -> None:
        write(folder / "status.json", {"state": state, **more, "seconds": time.time() - began})

    try:
        status("running")  # stays when the job is killed
        record = carry_out(cfg)
        write(folder / "record.json", record)
        status("completed")
        return record
    except (Exception, SystemExit) as error:
        told = message(error, sys.argv[1:]) or f"{type(error).__name__}: {error}"
        with suppress(OSError):  # a disk that is full already said so
            status("failed", error=told)
        raise
    except KeyboardInterrupt:
        with suppress(OSError):
            status("interrupted")
        raise


def carry_out(cfg: DictConfig) -> dict[str, Any]:
    """Compose the job, run it on the store, and return its record."""
    from mint_cli.compose import job_of, typed  # heavy from here on: not for --help
    from mint_cli.experiment import run
    from mint_cli.store import Store

    choices, runtime = HydraConfig.get().runtime.choices, HydraConfig.get().runtime
    commandline.import_from(runtime)
    job = job_of(cfg, Path(runtime.cwd))
    machine.use(job.device, job.experiment.threads)
    with typed(cfg):
        results = run(job.experiment, Store(job.store, job.device))
    return {
        "schema": 2,
        **{name: choices[name] for name in CHOICES},
        **results,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": job.settings,
        "environment": machine.environment(job.device),
    }


def control(settings: DictConfig) -> str | None:
    """The command that prunes at random instead; None in a sweep, and where a pruner was set up."""
    overrides = list(settings.overrides.task)
    if settings.mode == RunMode.MULTIRUN or any(
        "pruner" in name.partition("=")[0] for name in overrides
    ):
        return None
    return shlex.join(["mint-run", *overrides, "pruner=random"])


def write(path: Path, content: dict[str, Any]) -> None:
    """Write JSON aside, under a name of its own, then rename it; an OSError names the file."""
    files.put(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


if __name__ == "__main__":
    main()
