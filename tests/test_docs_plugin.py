"""The page on plug-ins of one's own, run from its own text."""

import json
import re

import pytest
from commandline import ROOT, composed, mint_run

from mint_cli import families
from mint_cli.commandline import Folders, message
from mint_cli.compose import job_of, typed

PAGE = (ROOT / "docs" / "plugin.md").read_text()
QUICK = ("model.hidden=[20]", "schedule.train.epochs=1", "schedule.retrain.epochs=0", "pruner.calibration.images=100")


@pytest.fixture
def folder(tmp_path):
    """The files that the page shows, where it says that they lie."""
    for name, text in re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    yield tmp_path
    Folders.folders = []


def commands() -> list[list[str]]:
    return [line.split()[2:] for line in PAGE.splitlines() if line.startswith("$ mint-run ")]


def test_the_first_command_of_the_page_runs_from_its_folder_alone(folder):
    assert {str(p.relative_to(folder)) for p in folder.rglob("*.*")} == {
        "mine.py", "conf/criterion/power.yaml", "conf/pruner/mine.yaml",
    }  # fmt: skip
    result = mint_run(folder, *commands()[0], *QUICK, PYTHONPATH=str(ROOT))
    assert result.returncode == 0, result.stderr
    (record,) = [json.loads(p.read_text()) for p in folder.rglob("record.json")]
    assert record["pruner"] == "mine" and record["config"]["pruner"]["criterion"]["exponent"] == 2.0


def test_the_second_command_is_refused_as_the_page_says_and_the_third_sweeps_the_exponent(folder):
    refused = mint_run(folder, *commands()[1], *QUICK)
    assert refused.returncode == 1 and "exponent" in refused.stderr.strip() and refused.stderr.count("\n") == 1
    swept = mint_run(folder, *commands()[2], *QUICK)
    assert swept.returncode == 0, swept.stderr
    records = [json.loads(p.read_text()) for p in folder.rglob("record.json")]
    assert sorted(record["config"]["pruner"]["criterion"]["exponent"] for record in records) == [1, 2]


def test_the_check_that_the_page_shows_refuses_what_it_says(folder, monkeypatch):
    from mint_cli import check

    plain = (folder / "mine.py").read_text()
    (checking,) = re.findall(r"```python\n(from mint_cli.errors.*?)@checked_by", PAGE, re.DOTALL)
    told = re.search(r"`mint-run: (pruner.criterion.exponent .*?)`", PAGE)[1]
    text = plain.replace("def power", "@checked_by(check)\ndef power")
    (folder / "checked_mine.py").write_text(checking + text)
    monkeypatch.syspath_prepend(str(folder))
    yaml = folder / "conf" / "criterion" / "power.yaml"
    yaml.write_text(yaml.read_text().replace("mine.power", "checked_mine.power"))
    cfg = composed(f"--config-dir={folder / 'conf'}", "pruner=mine", "pruner.criterion.exponent=0")
    with pytest.raises(Exception) as refused, typed(cfg):
        check.check(job_of(cfg, folder).experiment)
    assert message(refused.value, []) == told


def test_the_page_lists_every_family_with_what_it_is_passed():
    rows = [[cell.strip(" `") for cell in line.split("|")[1:3]] for line in PAGE.splitlines() if line.startswith("| ")]
    listed = {family: tuple(passed.split(", ")) for family, passed in rows if family in families.PASSED}
    assert listed == families.PASSED
