"""Every run that a benchmark script starts is one that mint-run accepts."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from mint_cli.main import CONF, build, settled
from mint_cli.experiment import plan

CPU = torch.device("cpu")
SCRIPTS = Path(__file__).parent.parent / "scripts"
NAMES = [
    "resnet56_recovery",
    "vgg16_recovery",
    "resnet56_table",
    "vgg16_table",
    "resnet56_long",
    "vgg16_long",
    "resnet56_rate",
    "vgg16_rate",
    "resnet56_calibration",
    "vgg16_ablation",
]


def commands(tmp_path: Path, script: str, *names: str) -> list[list[str]]:
    """The arguments of every mint-run that the script starts, none of them run."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name, body in (("scripts/run", '(printf "\\t%s" "$@"; echo) >> "$0.log"'), (".venv/bin/mint-table", "true")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    for weights in ("resnet56-4bfd9763.th", "vgg16_bn_cifar10_fp16.pth"):
        (tmp_path / weights).touch()
    shutil.copy(SCRIPTS / script, tmp_path / "scripts")
    small = {"WEIGHTS": str(tmp_path), "EPOCHS": "0,1", "SEEDS": "0,1"}
    subprocess.run([tmp_path / "scripts" / script, *names], env=os.environ | small, check=True)
    return [line.split("\t")[1:] for line in (tmp_path / "scripts/run.log").read_text().splitlines()]


def jobs(overrides: list[str]) -> list[list[str]]:
    """What a sweep composes: first what all jobs share, then the job of all first choices and those that differ from it in one."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    shared = [o.input_line for o in parsed if not o.is_sweep_override()]
    axes = [[f"{o.key_or_group}={value}" for value in o.sweep_string_iterator()] for o in parsed if o.is_sweep_override()]
    first = [axis[0] for axis in axes]
    others = [[*first[:i], choice, *first[i + 1 :]] for i, axis in enumerate(axes) for choice in axis[1:]]
    return [shared, *([*shared, *choices] for choices in [first, *others])]


def folder(cfg: DictConfig) -> tuple[str, str]:
    """Where a job of a sweep puts its record."""
    HydraConfig.instance().set_config(cfg)
    return cfg.hydra.sweep.dir, cfg.hydra.sweep.subdir


@pytest.mark.parametrize("name", NAMES)
def test_every_run_of_a_benchmark_composes_and_is_another_experiment_in_a_folder_of_its_own(tmp_path, hydra_restore_singletons, name):
    found = commands(tmp_path, "bench_cifar10", name)
    assert found and all(arguments[0] == "-m" for arguments in found)
    folders = []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for arguments in found:
            _, *each = [compose("config", overrides=overrides, return_hydra_config=True) for overrides in jobs(arguments[1:])]
            assert len({plan(build(settled(cfg, CPU)))["retrain"].key for cfg in each}) == len(each)
            folders += [folder(cfg) for cfg in each]
    assert len({*folders}) == len(folders)


def test_every_run_of_the_mlp_benchmark_composes(tmp_path):
    for arguments in commands(tmp_path, "bench_mnist_mlp"):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            _, *each = [compose("config", overrides=overrides) for overrides in jobs(arguments[1:])]
            assert len({plan(build(settled(cfg, CPU)))["retrain"].key for cfg in each}) == len(each)
