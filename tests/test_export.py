"""The network of a finished run in a file of its own: the recorded accuracy, or one sentence."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from channels import filter_cells, some
from commandline import ONE_THREAD, mint_run
from networks import seeded

import mint_cli
from mint_cli import export as ex
from mint_cli.dataset.digits import digits
from mint_cli.errors import DataError
from mint_cli.model.resnet_cifar import resnet_cifar
from mint_cli.network.layers import normalise_inputs
from mint_cli.network.surgery import indices, narrow

QUICK = (
    "pruner=l1", "granularity@pruner.granularity=filters", "model.hidden=[40,20]",
    "schedule.train.epochs=2", "schedule.retrain.epochs=1", "pruner.sparsity=0.5",
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which one quick run was made, the run's own folder, and its record."""
    folder = tmp_path_factory.mktemp("finished")
    result = mint_run(folder, *QUICK)
    assert result.returncode == 0, result.stderr
    (path,) = folder.rglob("record.json")
    return folder, path.parent, json.loads(path.read_text())


@pytest.fixture
def run(finished, monkeypatch):
    """The run's own folder; commands are typed where it was made."""
    monkeypatch.chdir(finished[0])
    return finished[1]


def accuracy(network, record, run_folder):
    from pathlib import Path

    settings = {k: v for k, v in record["config"]["dataset"].items() if not k.startswith("_")}
    test = digits(Path(), **settings).test
    with torch.no_grad():
        predicted = network(test.pixels.float() / 255).argmax(1)
    return float((predicted == test.labels).double().mean())


def test_a_packed_network_has_the_recorded_accuracy(run, finished, tmp_path, capsys):
    file = tmp_path / "own" / "network.mint.safetensors"
    assert ex.main([str(run), "--output", str(file)]) == 0
    assert capsys.readouterr().out.strip() == str(file)
    record = finished[2]
    network = mint_cli.load(file)
    assert accuracy(network, record, run) == record["accuracy"]["shrunken"]
    assert sum(p.numel() for p in network.parameters()) == record["cost"]["shrunken"]["parameters"]
    assert sorted(p.name for p in file.parent.iterdir()) == ["network.mint.md", file.name]


def test_a_torch_program_has_the_recorded_accuracy_without_this_package(run, finished, tmp_path):
    file = tmp_path / "network.pt2"
    assert ex.main([str(run), "--format", "torch", "--output", str(file)]) == 0
    record = finished[2]
    program = torch.export.load(file).module()
    assert accuracy(program, record, run) == record["accuracy"]["shrunken"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["network.md", "network.pt2"]
    code = (
        "import sys, torch\n"
        "program = torch.export.load(sys.argv[1]).module()\n"
        "print(tuple(program(torch.rand(1, 1, 8, 8)).shape), 'mint_cli' in sys.modules)"
    )
    (tmp_path / "empty").mkdir()
    result = subprocess.run(
        [sys.executable, "-c", code, str(file)], cwd=tmp_path / "empty", capture_output=True,
        text=True, timeout=300, env={**os.environ, **ONE_THREAD},
    )  # fmt: skip
    assert result.stdout.strip() == "(1, 10) False", result.stderr


def test_an_onnx_file_has_the_recorded_accuracy(run, finished, tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    file = tmp_path / "network.onnx"
    assert ex.main([str(run), "--format", "onnx", "--output", str(file)]) == 0
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def network(x):
        (logits,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        return torch.from_numpy(logits)

    record = finished[2]
    assert accuracy(network, record, run) == record["accuracy"]["shrunken"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["network.md", "network.onnx"]


def residual_network():
    """A residual network without half of the channels inside its blocks."""
    model = seeded(lambda: resnet_cifar((3, 16, 16), 10, depth=8, bottleneck=False))
    model = normalise_inputs(model, (0.5,) * 3, (0.2,) * 3)
    cells = filter_cells(model, False, (3, 16, 16))
    narrow(model, *indices(cells, some(cells)))
    return model.eval()


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_programs_of_residual_networks_are_checked_at_another_number_of_images(kind, tmp_path):
    if kind == "onnx":
        pytest.importorskip("onnxscript"), pytest.importorskip("onnxruntime")
    path = tmp_path / f"network{ex.ENDINGS[kind]}"
    ex.exported(residual_network(), [3, 16, 16], kind, path)
    assert path.stat().st_size > 100_000 and len(list(tmp_path.iterdir())) == 1


def test_a_program_with_other_outputs_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ex, "CLOSE", -1.0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    with pytest.raises(DataError, match="outputs of the torch file differ by"):
        ex.exported(network, [1, 8, 8], "torch", tmp_path / "network.pt2")


def test_a_relative_store_is_found_from_any_folder(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = ex.export(finished[1], "packed", tmp_path / "it.mint.safetensors")
    assert (
        accuracy(mint_cli.load(path), finished[2], finished[1])
        == finished[2]["accuracy"]["shrunken"]
    )


def test_a_network_of_ones_own_becomes_a_program_by_the_function_that_builds_it(
    finished, tmp_path, monkeypatch, capsys
):
    record = json.loads(json.dumps(finished[2]))
    record["config"]["model"]["_target_"] = "net_of_mine.network"
    own = finished[1].parent / "own"
    own.mkdir()
    (own / "record.json").write_text(json.dumps(record))
    (tmp_path / "net_of_mine.py").write_text("from mint_cli.model.mlp import mlp as network\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    arguments = [str(own), "--format", "torch", "--output", "network.pt2"]
    assert ex.main(arguments) == 1
    assert "may name networks of this package, not net_of_mine.network" in capsys.readouterr().err
    assert ex.main([*arguments, "--model", "net_of_mine.network"]) == 0
    program = torch.export.load("network.pt2").module()
    assert accuracy(program, record, own) == record["accuracy"]["shrunken"]
    packed = ex.export(own, "packed", tmp_path / "it.mint.safetensors")
    assert '("it.mint.safetensors", model=…)' in packed.with_suffix(".md").read_text()


def test_the_card_says_how_good_how_large_and_how_to_load_it(run, finished, tmp_path):
    path = ex.export(run, "packed", tmp_path / "it.mint.safetensors")
    card, record = path.with_suffix(".md").read_text(), finished[2]
    assert 'mint_cli.load("it.mint.safetensors")' in card
    assert f"shrunken {record['accuracy']['shrunken']:.2%}" in card
    for name in ("dense", "shrunken"):
        assert f"{record['cost'][name]['parameters']:,}" in card
    assert "mlp on digits, pruned by l1" in card
    amount = f"{record['sparsity']['asked']} of {record['config']['pruner']['of']}"
    assert "granularity filters, criterion l1, allocation" in card and f": {amount};" in card


def test_without_an_output_the_file_lies_beside_the_record(run):
    path = ex.export(run, "packed", None)
    assert path == run / "network.mint.safetensors" and path.exists()


def test_onnx_without_its_packages_is_refused_with_how_to_install(
    run, monkeypatch, capsys, tmp_path
):
    found = ex.importlib.util.find_spec
    absent = lambda name: None if name == "onnxruntime" else found(name)  # noqa: E731
    monkeypatch.setattr(ex.importlib.util, "find_spec", absent)
    file = tmp_path / "network.onnx"
    assert ex.main([str(run), "--format", "onnx", "--output", str(file)]) == 1
    told = capsys.readouterr().err.strip()
    assert told.startswith(
        "mint-export: format onnx needs onnx, onnxscript, onnxruntime: pip install"
    )
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_record_is_told_in_one_sentence(tmp_path, capsys):
    assert ex.main([str(tmp_path)]) == 1
    told = capsys.readouterr().err.strip()
    assert "record.json" in told and len(told.splitlines()) == 1


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1}', "{"])
def test_a_record_that_is_none_is_told_in_one_sentence(tmp_path, capsys, content):
    (tmp_path / "record.json").write_text(content)
    assert ex.main([str(tmp_path)]) == 1
    told = capsys.readouterr().err.strip()
    assert (
        told.startswith("mint-export: ") and "record.json" in told and len(told.splitlines()) == 1
    )


def test_a_store_that_was_cleaned_or_damaged_is_told_in_one_sentence(
    finished, tmp_path, capsys, monkeypatch
):
    shutil.copytree(finished[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    run = next((tmp_path / "copy").rglob("record.json")).parent
    (folder,) = (tmp_path / "copy" / "outputs" / "store" / "shrink").glob("[!.]*")
    (folder / "metrics.json").write_text("{}")
    assert ex.main([str(run)]) == 1
    assert "is damaged" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "copy" / "outputs" / "store")
    assert ex.main([str(run)]) == 1
    told = capsys.readouterr().err.strip()
    assert "outputs/store no longer holds the network" in told and len(told.splitlines()) == 1


def test_what_onnxruntime_would_answer_otherwise_is_not_left_behind(run, tmp_path, monkeypatch):
    def failing(network, shape, kind, path):
        path.write_bytes(b"half")
        raise DataError("no")

    monkeypatch.setattr(ex, "exported", failing)
    with pytest.raises(DataError):
        ex.export(run, "torch", tmp_path / "network.pt2")
    assert not list(tmp_path.iterdir())
