"""Every study: its runs are ones that mint-run accepts, its tables ones that mint-table accepts."""

import json
from pathlib import Path

import pytest
import torch
from commandline import composed

from mint_cli.compose import build, check_settings, resolved, settle_precision
from mint_cli.report import table
from mint_cli.study import STUDIES, Cell, cells, read, table_arguments

NAMES = sorted(path.stem for path in STUDIES.glob("*.yaml"))


def runs(name: str, checkpoint: Path) -> list[Cell]:
    """All runs of a study."""
    study = read(name)
    given = {key: [str(checkpoint)] for key in study.needs}
    return cells(study, Path(study.folder), given)


def covering(found: list[Cell]) -> list[Cell]:
    """Few runs that use every override of every sweep, in company of every other key of it."""
    left = {(keys(cell), one) for cell in found for one in cell.overrides}
    chosen = []
    while left:
        best = max(found, key=lambda c: len(left & {(keys(c), one) for one in c.overrides}))
        left -= {(keys(best), one) for one in best.overrides}
        chosen.append(best)
    return chosen


def keys(cell: Cell) -> tuple[str, ...]:
    """What tells a sweep from another: where its records go, and the settings that it makes."""
    return (str(cell.folder.parent), *(one.partition("=")[0] for one in cell.overrides))


def settings_of(cell: Cell) -> dict:
    """The plain settings of a run on a CPU."""
    settings = resolved(composed(*cell.overrides))
    check_settings(settings)
    settle_precision(settings["schedule"], torch.device("cpu"))
    return settings


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "checkpoint.pth"
    torch.save({"weight": torch.zeros(1)}, path)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_every_run_of_a_study_is_an_experiment_and_no_two_are_the_same(name, checkpoint):
    found = runs(name, checkpoint)
    assert len({cell.overrides for cell in found}) == len(found)
    settings = [settings_of(cell) for cell in covering(found)]
    assert len({json.dumps(one, sort_keys=True) for one in settings}) == len(settings)
    for one in settings:
        build(one)


@pytest.mark.parametrize("name", NAMES)
def test_every_table_of_a_study_is_a_command_that_mint_table_takes(name):
    study = read(name)
    assert study.tables
    for entry in study.tables:
        options = table.arguments(table_arguments(Path(study.folder), entry))
        assert options.output.parent == Path(study.folder)
        assert any(sweep["into"].startswith(entry["records"]) for sweep in study.sweeps)
        assert not options.plot or options.x


@pytest.mark.parametrize("name", NAMES)
def test_a_study_says_what_it_is_about_and_its_command(name):
    lines = (STUDIES / f"{name}.yaml").read_text().splitlines()
    assert lines[0].startswith("# ") and lines[1].startswith(f"# mint-study {name}")
    assert ("checkpoint=FILE" in lines[1]) == ("checkpoint" in read(name).needs)
