"""The example of a network of one's own: the commands of its page, as they are written."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from commandline import ONE_THREAD, ROOT

FOLDER = ROOT / "examples" / "own_network"
PAGE = (FOLDER / "README.md").read_text()
COMMANDS = {"mint-run": "mint_cli.main", "mint-export": "mint_cli.export"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The example's files, without what earlier runs have left beside them."""
    place = tmp_path_factory.mktemp("example") / "own"
    shutil.copytree(FOLDER, place, ignore=shutil.ignore_patterns("outputs", "smaller", "__py*"))
    return place


def typed(folder, *words: str) -> str:
    """What Python says on being given these words in the folder."""
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_of_the_page_make_a_smaller_network_that_a_fresh_process_loads(folder):
    for line in re.findall(r"^\$ (.*)", PAGE.replace("\\\n", ""), re.MULTILINE):
        command, *words = line.split()
        typed(folder, "-m", COMMANDS[command], *words)
    record = json.loads((folder / "smaller" / "record.json").read_text())
    accuracy, before, after = record["accuracy"], *map(record["cost"].get, ("dense", "shrunken"))
    assert record["shrink"]["reason"] is None and record["shrink"]["difference"] < 1e-5
    assert 0.4 * before["macs"] < after["macs"] <= 0.5 * before["macs"]
    assert accuracy["shrunken"] > accuracy["dense"] - 0.1 > 0.8
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    told = f"{after['parameters']:,} parameters, {accuracy['shrunken']:.2%} of the test images"
    assert typed(folder, "-c", code).strip() == told
