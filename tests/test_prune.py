"""``mint-prune``: from a checkpoint to a file that a fresh process loads, or one sentence."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from commandline import ONE_THREAD, ROOT
from networks import seeded

from mint_cli import prune
from mint_cli.errors import SettingError
from mint_cli.model.mlp import mlp

QUICK = ("--pruner", "l1", "model.hidden=[40,20]", "threads=1")


def typed(*arguments: str) -> list[str]:
    return prune.overrides(prune.options(["net.pth", *arguments]))


RESNET = ("--model", "resnet56", "--dataset", "cifar10")


def test_a_command_line_is_settings_of_mint_run():
    assert typed(*RESNET, "--data", "d", "--macs", "0.5", "--images", "100", "--epochs", "3") == [
        "checkpoint=net.pth",
        "model=resnet56",
        "dataset=cifar10",
        "data=d",
        "pruner=elimination",
        "granularity@pruner.granularity=filters",
        "pruner.of=macs",
        "pruner.sparsity=0.5",
        "pruner.skip=[]",
        "pruner.calibration.images=100",
        "schedule.retrain.epochs=3",
    ]


@pytest.mark.parametrize(
    ("option", "of"),
    [
        ("--macs", "macs"),
        ("--parameters", "parameters"),
        ("--channels", "cells"),
        ("--cells", "cells"),
    ],
)
def test_a_budget_is_a_share_of_one_thing(option, of):
    assert {f"pruner.of={of}", "pruner.sparsity=0.3"} < set(typed(*RESNET, option, "0.3"))


@pytest.mark.parametrize("given", [(), ("--macs", "0.5", "--cells", "0.5")])
def test_no_budget_and_two_budgets_are_refused(given):
    with pytest.raises(SettingError, match="exactly one of --macs, --parameters and --channels"):
        typed(*RESNET, *given)


def test_a_setting_that_is_typed_replaces_the_commands_own():
    found = typed(*RESNET, "--macs", "0.5", "pruner.skip=[conv1]", "seed=3")
    assert "pruner.skip=[conv1]" in found and "pruner.skip=[]" not in found and "seed=3" in found


def test_a_network_of_torchvision_is_known_by_its_own_name():
    pytest.importorskip("torchvision")
    found = typed("--model", "resnet18", "--dataset", "imagefolder", "--macs", "0.5")
    assert {"model=torchvision", "model.name=resnet18"} < set(found)


@pytest.mark.parametrize(
    ("model", "dataset", "told"),
    [
        ("resnet57", "cifar10", "--model must be one of .*, not resnet57; did you mean resnet56"),
        ("resnet180", "cifar10", "not resnet180; did you mean resnet18"),
        ("resnet56", "cifar1", "--dataset must be one of .*, not cifar1; did you mean cifar10"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_one(model, dataset, told):
    with pytest.raises(SettingError, match=told):
        typed("--model", model, "--dataset", dataset, "--macs", "0.5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a network's weights."""
    folder = tmp_path_factory.mktemp("prune")
    model = seeded(lambda: mlp((1, 8, 8), 10, hidden=[40, 20], dropout=0.0))
    torch.save(model.state_dict(), folder / "net.pth")
    model = seeded(lambda: mlp((1, 8, 8), 7, hidden=[40, 20], dropout=0.0))
    torch.save(model.state_dict(), folder / "seven.pth")
    return folder


def mint_prune(*arguments: str, network: str = "net.pth") -> int:
    return prune.main([network, "--model", "mlp", "--dataset", "digits", *QUICK, *arguments])


def test_a_dry_run_says_what_would_go_and_writes_nothing(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    assert mint_prune("--macs", "0.5", "--dry-run") == 0
    told = capsys.readouterr().out
    assert told.startswith("60 channels in 2 sets can go\n")
    assert re.search(r"multiply-accumulates: 0\.5\d+ of 3,560 would go, asked 0\.5", told)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "network", "told"),
    [
        (("--macs", "0.9999"), "net.pth", r"--macs can be at most 0\.9\d+ of the macs"),
        (("--macs", "half"), "net.pth", "--macs must be a number or null, not 'half'"),
        (("--macs", "1.5"), "net.pth", r"--macs must lie in \[0, 1\), not 1.5"),
        (("--macs", "0.5", "--images", "0"), "net.pth", "--images must"),
        (("--macs", "0.5"), "absent.pth", "NETWORK must name a whole .* file"),
        (
            ("--macs", "0.5", "--dry-run"),
            "seven.pth",
            r"NETWORK must .* \(10, 20\) but .* \(7, 20\)",
        ),
        (("--macs", "0.5", "pruner.skp=[]"), "net.pth", "there is no setting pruner.skp; did you"),
        (("--macs", "0.5", "pruner.skip=['*']"), "net.pth", "pruner.skip leaves no layer to prune"),
    ],
)
def test_bad_input_is_one_sentence_that_names_what_was_typed(
    folder, monkeypatch, capsys, arguments, network, told
):
    monkeypatch.chdir(folder)
    assert mint_prune(*arguments, network=network) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match(f"mint-prune: {told}", line), line


def test_the_file_gives_the_recorded_accuracy_in_a_fresh_process(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert mint_prune("--channels", "0.5", "--output", "small.mint.safetensors") == 0
    told = capsys.readouterr().out
    (path,) = folder.rglob("record.json")
    record = json.loads(path.read_text())
    for name in ("dense", "shrunken"):
        assert f"{record['accuracy'][name]:.2%}" in told
        assert f"{record['cost'][name]['parameters']:,}" in told
    assert told.splitlines()[-1] == "network small.mint.safetensors"
    assert json.loads((path.parent / "status.json").read_text())["state"] == "completed"
    (folder / "empty").mkdir()
    code = (
        "import sys, torch, mint_cli\n"
        "from pathlib import Path\n"
        "from mint_cli.dataset.digits import digits\n"
        "network = mint_cli.load(sys.argv[1])\n"
        "test = digits(Path(), validation=200, seed=0, mean=[0.0], std=[1.0]).test\n"
        "predicted = network(test.pixels.float() / 255).argmax(1)\n"
        "print(float((predicted == test.labels).double().mean()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(folder / "small.mint.safetensors")],
        cwd=folder / "empty", capture_output=True, text=True, timeout=300,
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert float(result.stdout) == record["accuracy"]["shrunken"], result.stderr
