"""What is installed is whole: the wheel carries the configurations."""

import os
import subprocess
import sys
import zipfile

import pytest
from commandline import ROOT

pytest.importorskip("hatchling")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "-w",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_carries_every_configuration_module_and_table(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"mint_cli/conf/{p.relative_to(ROOT / 'conf')}" for p in (ROOT / "conf").rglob("*.yaml")
    }
    wanted |= {
        str(p.relative_to(ROOT))
        for p in (ROOT / "mint_cli").rglob("*")
        if p.suffix in (".py", ".csv")
    }
    assert wanted <= names
    assert not [n for n in names if n.startswith(("tests", "outputs", "data"))]


def test_an_unpacked_wheel_runs_from_any_folder_without_the_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "elsewhere").mkdir()
    settings = [
        "pruner=l1",
        "model.hidden=[20]",
        "pruner.groups=5",
        "pruner.child_groups=5",
        "schedule.train.epochs=1",
        "schedule.retrain.epochs=0",
    ]
    result = subprocess.run(
        [sys.executable, "-m", "mint_cli.main", *settings],
        cwd=tmp_path / "elsewhere",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "elsewhere" / "outputs" / "runs").rglob("record.json"))


def test_the_pins_are_names_and_versions_only():
    lines = (ROOT / "constraints.txt").read_text().split()
    assert lines and all(
        line.count("==") == 1 and "/" not in line and "@" not in line for line in lines
    )
