"""Studies: which runs they are, which are done, what becomes of one that fails, their tables."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import ONE_THREAD, ROOT, mint_run

from mint_cli import study
from mint_cli.errors import SettingError
from mint_cli.study import Cell, Study, cells, read, run, table_arguments, typed

PARTS = {
    "folder": "out",
    "needs": {},
    "name": ["pruner", "seed"],
    "settings": {"pruner.sparsity": 0.5, "seed": [0, 1]},
    "sweeps": [{"into": "all", "pruner": ["l1", "random"]}],
    "tables": [],
}


def overrides(given=None, **parts):
    found = cells(Study(**PARTS | parts), Path("out"), given or {})
    return {str(cell.folder): cell.overrides for cell in found}


def test_a_sweep_is_every_combination_once_in_a_folder_of_its_own():
    assert overrides() == {
        "out/all/l1_0": ("pruner.sparsity=0.5", "seed=0", "pruner=l1"),
        "out/all/random_0": ("pruner.sparsity=0.5", "seed=0", "pruner=random"),
        "out/all/l1_1": ("pruner.sparsity=0.5", "seed=1", "pruner=l1"),
        "out/all/random_1": ("pruner.sparsity=0.5", "seed=1", "pruner=random"),
    }


def test_a_sweep_has_its_own_settings_over_those_of_all():
    sweeps = [{"into": "a", "pruner": "l1", "seed": 5}, {"into": "b", "pruner": "l1"}]
    assert list(overrides(sweeps=sweeps)) == ["out/a/l1_5", "out/b/l1_0", "out/b/l1_1"]


def test_settings_of_the_command_line_replace_those_of_the_study_and_others_come_beside_them():
    given = typed(["seed=7,8", "pruner.skip=[fc1,fc2],[]", "pruner.sparsity=0.9"])
    found = overrides(given, sweeps=[{"into": "all", "pruner": "l1"}], name=["seed", "pruner.skip"])
    assert found["out/all/8_[fc1,fc2]"] == (
        "pruner.sparsity=0.9",
        "seed=8",
        "pruner=l1",
        "pruner.skip=[fc1,fc2]",
    )
    assert list(found) == [f"out/all/{s}_{skip}" for s in (7, 8) for skip in ("[fc1,fc2]", "[]")]


def test_values_are_written_as_the_command_line_takes_them():
    settings = {"seed": 0, "a": None, "b": True, "c": 5.0e-4, "d": "[1, 2]"}
    (found,) = overrides(settings=settings, sweeps=[{"into": "x", "pruner": "l1"}]).values()
    assert found == ("seed=0", "a=null", "b=true", "c=0.0005", "d=[1, 2]", "pruner=l1")


def test_a_setting_without_values_is_refused_by_name():
    sweeps = [{"into": "x", "pruner": "l1", "pruner.skip": []}]
    with pytest.raises(
        SettingError, match="^pruner.skip must have a value in a study: '\\[\\]' is"
    ):
        overrides(sweeps=sweeps)


def test_two_runs_that_would_share_a_folder_are_refused():
    with pytest.raises(Exception, match="two runs of the study would write into out/all/l1$"):
        overrides(sweeps=[{"into": "all", "pruner": "l1"}], name=["pruner"])


def test_what_only_the_user_knows_is_asked_for():
    needs = {"checkpoint": "the public one"}
    with pytest.raises(SettingError, match="^checkpoint is needed by this study: the public one$"):
        overrides(needs=needs)
    assert len(overrides({"checkpoint": ["file"]}, needs=needs)) == 4


def test_a_study_may_be_like_another_but_for_some_parts_and_settings(tmp_path):
    (tmp_path / "first.yaml").write_text(json.dumps(PARTS))
    other = {"like": str(tmp_path / "first.yaml"), "folder": "b", "settings": {"seed": 3}}
    (tmp_path / "other.yaml").write_text(json.dumps(other))
    merged = {"folder": "b", "settings": {"pruner.sparsity": 0.5, "seed": 3}}
    assert read(str(tmp_path / "other.yaml")) == Study(**PARTS | merged)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"tables": None}, "tables must be a list"),
        ({"swepes": []}, "swepes is no part of a study"),
        ({"needs": ["checkpoint"]}, r"needs must be a mapping to .* not \['checkpoint'\]"),
    ],
)
def test_a_file_that_is_no_study_is_refused_by_the_part(tmp_path, parts, sentence):
    (tmp_path / "odd.yaml").write_text(json.dumps(PARTS | parts))
    with pytest.raises(SettingError, match=sentence):
        read(str(tmp_path / "odd.yaml"))


def test_a_part_that_is_missing_and_a_study_that_there_is_not_are_named(tmp_path):
    (tmp_path / "odd.yaml").write_text(json.dumps({**PARTS, "like": "mnist_mlp_fc"}))
    with pytest.raises(SettingError, match="mnist_mlp_fc; did you mean mnist_mlp_fc2?"):
        read(str(tmp_path / "odd.yaml"))
    (tmp_path / "odd.yaml").write_text("folder: a\n")
    with pytest.raises(SettingError, match="needs is missing"):
        read(str(tmp_path / "odd.yaml"))


SMALL = ("pruner=l1", "schedule.train.epochs=1", "schedule.retrain.epochs=0", "seed=0")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder in which ``mint-run`` has made the record of a cell."""
    folder = tmp_path_factory.mktemp("made")
    result = mint_run(folder, *SMALL, "hydra.run.dir=out/cell")
    assert result.returncode == 0, result.stderr
    return folder


def states(folder, *overrides):
    return study.state(Cell(folder / "out/cell", overrides))


def test_a_record_of_the_same_settings_is_done_whatever_the_machine_chose(made):
    assert states(made, *SMALL) == "done"
    assert states(made, *SMALL, "device=cpu", "store=elsewhere", "data=elsewhere") == "done"
    automatic = (*SMALL, "schedule.train.precision=auto", "schedule.retrain.precision=auto")
    assert states(made, *automatic) == "done"


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("pruner.sparsity=0.7", "pruner.sparsity"),
        ("seed=1", "seed"),
        ("pruner.criterion=null", "pruner.criterion"),
        ("schedule.train.milestones=[1]", "schedule.train.milestones"),
        ("pruner.caps={fc1: 0.5}", "pruner.caps"),
        ("threads=7", "threads"),
        ("compensation@pruner.compensation=refit", "pruner.compensation"),
    ],
)
def test_a_record_of_other_settings_is_told_by_the_setting(made, override, name):
    found = states(made, *SMALL, override.replace("pruner.caps=", "++pruner.caps="))
    assert found.startswith("has a record of other settings (") and name in found


def test_a_checkpoint_goes_by_its_content(made, tmp_path):
    for name in ("one", "same", "other"):
        (tmp_path / name).write_text(name.replace("same", "one"))
    record = json.loads((made / "out/cell/record.json").read_text())
    record["checkpoint"] = hashlib.sha256(b"one").hexdigest()
    (tmp_path / "record.json").write_text(json.dumps(record))
    found = [
        study.state(Cell(tmp_path, (*SMALL, f"checkpoint={tmp_path}/{name}")))
        for name in ("one", "same", "other")
    ]
    assert found[:2] == ["done", "done"] and "(checkpoint)" in found[2]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"config": 3}', "\\x00"])
def test_a_damaged_record_is_not_done(tmp_path, content):
    (tmp_path / "record.json").write_text(content)
    assert study.state(Cell(tmp_path, SMALL)) == "has a record that cannot be read"


def test_a_finished_run_is_not_made_again_and_a_failing_one_is_named_while_others_go_on(
    monkeypatch, capsys
):
    found = {"a": "done", "b": "to do", "c": "to do", "d": "has a record of other settings (seed)"}
    monkeypatch.setattr(study, "state", lambda cell: found[cell.folder.name])
    todo = [Cell(Path("out", name), ()) for name in "abcd"]
    ran = []

    def job(cell):
        ran.append(cell.folder.name)
        return {"b": 1}.get(cell.folder.name, 0)

    failed = run(todo, Path("out"), replace=False, job=job)
    assert ran == ["b", "c"]
    assert failed[0] == "b ended with exit code 1"
    assert failed[1].startswith("d has a record of other settings (seed); --replace")
    assert "[2/4] b" in capsys.readouterr().err
    ran.clear()
    assert len(run(todo, Path("out"), replace=True, job=job)) == 1 and ran == ["b", "c", "d"]


def test_a_table_is_the_command_line_that_its_entry_says():
    entry = {
        "records": "recovery",
        "output": "recovery.md",
        "sort": ["pruner", "seed"],
        "where": {"schedule.retrain.epochs": 0, "pruner": ["l1", "random"]},
        "plot": "a.png",
        "x": "seed",
        "published": True,
    }
    assert table_arguments(Path("out"), entry) == [
        "out/recovery",
        *("--output", "out/recovery.md"),
        *("--sort", "pruner,seed"),
        *("--where", "schedule.retrain.epochs=0"),
        *("--where", "pruner=l1,random"),
        *("--plot", "out/a.png"),
        *("--x", "seed"),
        "--published",
    ]


def command(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "mint_cli.study", *arguments],
        cwd=folder,
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_a_study_runs_makes_its_table_and_is_done(tmp_path):
    parts = {
        "name": ["pruner.sparsity", "seed"],
        "settings": {key: value for key, value in (one.split("=") for one in SMALL)},
        "sweeps": [{"into": "all", "pruner.sparsity": [0.5, 1.5]}],
        "tables": [{"records": "all", "output": "all.md", "columns": ["pruner.sparsity"]}],
    }
    (tmp_path / "own.yaml").write_text(json.dumps(PARTS | parts))
    first = command(tmp_path, "own.yaml", "--folder", "here")
    assert first.returncode == 1 and "all/1.5_0 ended with exit code 1" in first.stderr
    assert "pruner.sparsity must lie in" in first.stderr
    (record,) = tmp_path.rglob("record.json")
    assert record == tmp_path / "here/all/0.5_0/record.json"
    assert "| 0.5 |" in (tmp_path / "here/all.md").read_text()
    again = command(tmp_path, "own.yaml", "--folder", "here", "--only", "0.5_", "seed=0")
    assert (again.returncode, again.stdout) == (0, "")
    shown = command(tmp_path, "own.yaml", "--list", "--folder", "here").stdout.splitlines()
    assert shown[0].startswith("all/0.5_0 done: mint-run pruner=l1 ")
    assert shown[1].startswith("all/1.5_0 to do: mint-run ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["resnet56_rat"], "did you mean resnet56_rate"),
        (["resnet56_rate"], "checkpoint is needed by this study: resnet56-4bfd9763.th"),
        (["resnet56_rate", "checkpoint"], "checkpoint sets nothing"),
        (["resnet56_rate", "checkpoint=a", "--only", "nothing"], "--only must be part of a run's"),
    ],
)
def test_a_command_that_cannot_be_is_told_in_one_sentence(capsys, arguments, sentence):
    assert study.main(arguments) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and sentence in told[0]
