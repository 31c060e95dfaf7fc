"""Whole runs as a user types them, the same result however they come about."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commandline import ONE_THREAD, ROOT, mint_run, mnist_root

SMALL = (
    "model.hidden=[40,20]",
    "pruner.groups=5",
    "pruner.calibration.images=200",
    "pruner.samples_per_class=20",
)
QUICK = (*SMALL, "schedule.train.epochs=1", "schedule.retrain.epochs=1")
STAGES = ("train", "score", "prune", "retrain", "evaluate")
ENVIRONMENT = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}


def records(folder: Path) -> list[dict]:
    return [json.loads(p.read_text()) for p in sorted((folder / "outputs").rglob("record.json"))]


def finished(folder: Path, stage: str) -> list[Path]:
    return [
        p for p in (folder / "outputs" / "store" / stage).glob("*") if not p.name.startswith(".")
    ]


def untimed(record: dict) -> dict:
    kept = {k: v for k, v in record.items() if k not in ("seconds", "finished", "environment")}
    cost = {k: v for k, v in record["cost"].items() if isinstance(v, dict)}
    sizes = {k: {name: n for name, n in v.items() if name != "latency"} for k, v in cost.items()}
    return kept | {"cost": sizes}


def python(folder: Path, code: str, *overrides: str) -> subprocess.Popen:
    """``mint-run`` in a process that runs ``code`` first."""
    command = [sys.executable, "-c", f"{code}\nfrom mint_cli.main import main\nmain()", *overrides]
    return subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder in which one quick default run was made, and its output."""
    folder = tmp_path_factory.mktemp("done")
    result = mint_run(folder, *QUICK)
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


def test_a_run_ends_with_a_summary_and_a_record(done):
    folder, output = done
    (record,) = records(folder)
    for word in (
        "sparsity",
        "asked 0.8000, reached 0.8",
        "dense",
        "pruned",
        "retrained",
        "seconds",
        "record.json",
    ):
        assert word in output
    assert (record["dataset"], record["model"], record["pruner"], record["seed"]) == (
        "digits",
        "mlp",
        "elimination",
        0,
    )
    layers = {"fc1", "fc2", "fc3"}
    assert layers == set(record["sparsity"]["layers"]) == set(record["reliability"]["layers"])
    assert (
        abs(record["sparsity"]["total"] - 0.8) < 128 / record["weights"]["prunable"]
    )  # within one block
    assert record["sparsity"]["of_all_weights"] == record["sparsity"]["total"]
    assert (
        record["sparsity"]["zeros"] >= record["sparsity"]["total"]
    )  # inputs that never vary get none
    assert record["weights"]["all"] == 64 * 40 + 40 * 20 + 20 * 10
    assert all(0 <= record["accuracy"][k] <= 1 for k in ("dense", "pruned", "retrained"))
    assert set(STAGES) <= set(record["seconds"])


def test_a_run_from_a_checkpoint_starts_at_its_accuracy_and_records_its_content(done, tmp_path):
    folder, _ = done
    (own,) = (folder / "outputs/store/train").glob("[!.]*/tensors.safetensors")
    result = mint_run(tmp_path, *QUICK, f"checkpoint={own}")
    assert result.returncode == 0, result.stderr
    (record,), first = records(tmp_path), records(folder)[0]
    assert record["accuracy"]["dense"] == first["accuracy"]["dense"] and first["checkpoint"] is None
    assert record["checkpoint"] == hashlib.sha256(own.read_bytes()).hexdigest()


def test_a_finished_run_repeated_makes_nothing_anew_and_gives_the_same_record(done):
    folder, _ = done
    store = folder / "outputs" / "store"
    before = {p: p.stat().st_mtime_ns for p in store.rglob("*.safetensors")}
    assert mint_run(folder, *QUICK).returncode == 0
    assert before == {p: p.stat().st_mtime_ns for p in store.rglob("*.safetensors")}
    first, second = records(folder)[:2]
    assert untimed(first) == untimed(second) and first["seconds"] == second["seconds"]


def test_the_same_command_elsewhere_gives_byte_identical_artifacts(done, tmp_path):
    folder, _ = done
    assert mint_run(tmp_path, *QUICK).returncode == 0
    for stage in STAGES:
        one, other = (
            sorted(finished(where, stage), key=lambda p: p.name) for where in (folder, tmp_path)
        )
        assert [p.name for p in one] == [p.name for p in other] and one
        for a, b in zip(one, other, strict=True):
            for name in ("tensors.safetensors", "metrics.json", "checksums.json"):
                assert (a / name).read_bytes() == (b / name).read_bytes()


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_killed_in_any_stage_and_run_again_gives_the_record_of_an_undisturbed_one(
    done, tmp_path, stage
):
    folder, _ = done
    killer = (
        "import functools, os, signal, mint_cli.experiment as experiment\n"
        f"@functools.wraps(experiment.{stage})\n"
        "def killed(*arguments): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"experiment.{stage} = killed"
    )
    assert python(tmp_path, killer, *QUICK).wait(300) == -signal.SIGKILL
    assert not finished(tmp_path, stage) and not records(tmp_path)
    assert bool(finished(tmp_path, "train")) == (stage != "train")
    assert mint_run(tmp_path, *QUICK).returncode == 0
    assert untimed(records(tmp_path)[0]) == untimed(records(folder)[0])


def test_a_training_killed_between_epochs_goes_on_and_ends_as_if_undisturbed(tmp_path):
    settings = (*SMALL, "pruner=l1", "schedule.train.epochs=40", "schedule.retrain.epochs=0")
    eager = "import mint_cli.store as store\nstore.Store._scratch.__defaults__ = (0.0,)"
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    cut.mkdir()
    whole.mkdir()
    job = python(cut, eager, *settings)
    until = time.monotonic() + 120
    while not list(cut.rglob(".*.progress")) and time.monotonic() < until:
        time.sleep(0.005)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert not finished(cut, "train") and list(cut.rglob(".*.progress"))
    assert mint_run(cut, *settings).returncode == 0 and mint_run(whole, *settings).returncode == 0
    assert untimed(records(cut)[0]) == untimed(records(whole)[0])


def test_a_sweep_of_18_jobs_trains_3_times_and_scores_9_times_and_makes_a_table_of_six_rows(
    tmp_path,
):
    result = mint_run(
        tmp_path, "-m", "pruner=gmi,l1,random", "pruner.sparsity=0.5,0.9", "seed=0,1,2", *QUICK
    )
    assert result.returncode == 0, result.stderr
    assert [len(finished(tmp_path, s)) for s in STAGES[:-1]] == [3, 9, 18, 18] and len(
        records(tmp_path)
    ) == 18
    rows = [line for line in result.stdout.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 6 and all("(3)" in row for row in rows), result.stdout


def test_at_equal_quotas_with_the_same_refit_elimination_keeps_more_than_l1_and_that_than_random(
    tmp_path,
):
    same = (
        "pruner.sparsity=0.9",
        "schedule.retrain.epochs=0",
        "allocation@pruner.allocation=layer_quota",
    )
    assert mint_run(tmp_path, "pruner=elimination", *same).returncode == 0
    for pruner in ("l1", "random"):
        assert (
            mint_run(
                tmp_path, f"pruner={pruner}", "compensation@pruner.compensation=refit", *same
            ).returncode
            == 0
        )
    kept = {record["pruner"]: record["accuracy"]["pruned"] for record in records(tmp_path)}
    assert kept["elimination"] > kept["l1"] + 0.05 > kept["random"] + 0.05


def test_two_runs_at_once_both_finish_with_one_training(tmp_path):
    jobs = [python(tmp_path, "", *QUICK, f"pruner={pruner}") for pruner in ("l1", "random")]
    assert [job.wait(300) for job in jobs] == [0, 0]
    assert [len(finished(tmp_path, s)) for s in STAGES[:-1]] == [1, 2, 2, 2]


def test_an_interrupted_job_of_a_sweep_is_named_below_its_table(tmp_path):
    settings = (*SMALL, "pruner=l1", "schedule.train.epochs=1", "schedule.retrain.epochs=0,100000")
    job = subprocess.Popen(
        [sys.executable, "-m", "mint_cli.main", "-m", *settings, "hydra.sweep.dir=sweep"],
        cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # jobs may ignore it
    )  # fmt: skip
    try:
        while not (tmp_path / "sweep" / "1" / "status.json").exists():
            time.sleep(0.05)
            assert job.poll() is None
        job.send_signal(signal.SIGINT)
        assert "sweep/1: interrupted" in job.communicate(timeout=60)[0]
    finally:
        job.kill()


def test_missing_data_is_told_with_the_files_that_are_expected(tmp_path):
    nowhere = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    result = mint_run(tmp_path, "dataset=mnist", "data=nowhere", **nowhere)
    assert (
        result.returncode == 1
        and "nowhere/MNIST/raw" in result.stderr
        and "train-images-idx3-ubyte" in result.stderr
    )


def test_a_store_that_cannot_be_written_is_reported_with_its_path(tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = mint_run(tmp_path, *QUICK, "store=file/store")
    assert (
        result.returncode == 1
        and "file/store" in result.stderr
        and "Traceback" not in result.stderr
    )


def test_several_rounds_reach_the_asked_sparsity_and_are_all_in_the_record(tmp_path):
    rounds = ("rounds@schedule.rounds=geometric", "schedule.rounds.count=2")
    assert mint_run(tmp_path, *QUICK, "pruner=l1", *rounds).returncode == 0
    (record,) = records(tmp_path)
    gone = [one["sparsity"]["total"] for one in record["rounds"]]
    assert len(gone) == 2 and abs(gone[0] - (1 - 0.2**0.5)) < 0.02 and abs(gone[1] - 0.8) < 0.02
    assert record["sparsity"]["total"] == gone[1] and len(finished(tmp_path, "prune")) == 2
    spent = [
        json.loads((folder / "seconds.json").read_text())["seconds"]
        for folder in finished(tmp_path, "retrain")
    ]
    assert len(spent) == 2 and record["seconds"]["retrain"] == pytest.approx(sum(spent))


@pytest.mark.parametrize("model", ["mlp", "lenet5"])
def test_the_users_command_works_on_the_real_mnist_files(tmp_path, model):
    settings = (
        "pruner.sparsity=0.5",
        "pruner.cap=0.8",  # with few samples the score is noise and may take all of a layer
        "pruner.samples_per_class=30",
        "schedule.train.epochs=1",
        "schedule.retrain.epochs=1",
        "pruner.criterion.estimator.splits=2",
    )
    result = mint_run(
        tmp_path, f"model={model}", "dataset=mnist", "pruner=gmi", *settings, f"data={mnist_root()}"
    )
    assert result.returncode == 0, result.stderr
    (record,) = records(tmp_path)
    assert record["accuracy"]["dense"] > 0.9 and record["accuracy"]["retrained"] > 0.9
