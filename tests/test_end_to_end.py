"""The command line as a user types it, each command in a folder of its own."""

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

QUICK = ("schedule.train.epochs=1", "schedule.retrain.epochs=1", "pruner.samples_per_class=20", "pruner.groups=5", "model.hidden=[40,20]")
STAGES = ("train", "score", "prune", "retrain")


def records(folder: Path) -> list[dict]:
    return [json.loads(p.read_text()) for p in sorted((folder / "outputs").rglob("record.json"))]


def finished(folder: Path, stage: str) -> list[Path]:
    return [p for p in (folder / "outputs" / "store" / stage).glob("*") if not p.name.startswith(".")]


def untimed(record: dict) -> dict:
    return {k: v for k, v in record.items() if k not in ("seconds", "finished", "environment")}


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
    for word in ("sparsity", "asked 0.8000, reached 0.8", "dense", "pruned", "retrained", "seconds", "record.json"):
        assert word in output
    assert (record["dataset"], record["model"], record["pruner"], record["seed"]) == ("digits", "mlp", "gmi", 0)
    assert abs(record["sparsity"]["total"] - 0.8) < 1 / record["weights"]["prunable"]
    assert record["weights"]["all"] == 64 * 40 + 40 * 20 + 20 * 10
    assert set(record["sparsity"]["layers"]) == {"fc1", "fc2", "fc3"} == set(record["signal"]["layers"])
    assert all(0 <= record["accuracy"][k] <= 1 for k in ("dense", "pruned", "retrained"))
    assert set(STAGES) <= set(record["seconds"]) and set(record["artifacts"]) == set(STAGES)


def test_a_run_from_a_checkpoint_starts_at_its_accuracy_and_records_its_content(done, tmp_path):
    folder, _ = done
    (own,) = (folder / "outputs/store/train").glob("[!.]*/tensors.safetensors")
    result = mint_run(tmp_path, *QUICK, f"model.weights={own}")
    assert result.returncode == 0, result.stderr
    (record,), first = records(tmp_path), records(folder)[0]
    assert record["accuracy"]["dense"] == first["accuracy"]["dense"] and first["checkpoint"] is None
    assert record["checkpoint"] == hashlib.sha256(own.read_bytes()).hexdigest()


def test_a_finished_run_repeated_makes_nothing_anew_and_gives_the_same_record(done):
    folder, _ = done
    before = {p: p.stat().st_mtime_ns for p in (folder / "outputs" / "store").rglob("*.safetensors")}
    assert mint_run(folder, *QUICK).returncode == 0
    assert before == {p: p.stat().st_mtime_ns for p in (folder / "outputs" / "store").rglob("*.safetensors")}
    first, second = records(folder)[:2]
    assert untimed(first) == untimed(second) and first["seconds"] == second["seconds"]


def test_the_same_command_elsewhere_gives_byte_identical_artifacts(done, tmp_path):
    folder, _ = done
    assert mint_run(tmp_path, *QUICK).returncode == 0
    for stage in STAGES:
        (one,), (other,) = finished(folder, stage), finished(tmp_path, stage)
        assert one.name == other.name
        for name in ("tensors.safetensors", "metrics.json", "checksums.json"):
            assert (one / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_killed_in_any_stage_and_run_again_gives_the_record_of_an_undisturbed_one(done, tmp_path, stage):
    folder, _ = done
    killer = (
        "import os, signal, mint_cli.stage as stage\n"
        f"def {stage}(*arguments): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"stage.{stage} = {stage}\n"
        "from mint_cli.main import main\nmain()"
    )
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", killer, *QUICK], cwd=tmp_path, env=environment, capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert [len(finished(tmp_path, s)) for s in STAGES] == [int(STAGES.index(s) < STAGES.index(stage)) for s in STAGES]
    assert not records(tmp_path)
    assert mint_run(tmp_path, *QUICK).returncode == 0
    assert untimed(records(tmp_path)[0]) == untimed(records(folder)[0])


def test_a_training_killed_between_epochs_goes_on_and_ends_as_if_undisturbed(tmp_path):
    settings = ("model.hidden=[40,20]", "pruner.samples_per_class=20", "schedule.train.epochs=40", "schedule.retrain.epochs=0", "pruner=l1")
    eager = (
        "import mint_cli.store as store, functools\n"
        "store.Scratch.__init__.__defaults__ = (0.0, *store.Scratch.__init__.__defaults__[1:])\n"
        "from mint_cli.main import main\nmain()"
    )
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}
    (tmp_path / "cut").mkdir()
    (tmp_path / "whole").mkdir()
    job = subprocess.Popen([sys.executable, "-c", eager, *settings], cwd=tmp_path / "cut", env=environment, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not list((tmp_path / "cut").rglob(".*.progress")) and time.monotonic() < until:
        time.sleep(0.005)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert not finished(tmp_path / "cut", "train")
    assert mint_run(tmp_path / "cut", *settings).returncode == 0 and mint_run(tmp_path / "whole", *settings).returncode == 0
    assert untimed(records(tmp_path / "cut")[0]) == untimed(records(tmp_path / "whole")[0])


def test_a_sweep_of_18_jobs_trains_3_times_and_scores_9_times_and_makes_a_table_of_six_rows(tmp_path):
    result = mint_run(tmp_path, "-m", "pruner=gmi,l1,random", "pruner.sparsity=0.5,0.9", "seed=0,1,2", *QUICK)
    assert result.returncode == 0, result.stderr
    assert [len(finished(tmp_path, s)) for s in STAGES] == [3, 9, 18, 18] and len(records(tmp_path)) == 18
    table = subprocess.run(
        [sys.executable, "-m", "mint_cli.report.table", "outputs/sweeps"], cwd=tmp_path,
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    rows = [line for line in table.stdout.splitlines() if line.startswith("|")][2:]
    assert table.returncode == 0 and len(rows) == 6 and all("(3)" in row for row in rows), table.stdout + table.stderr


def test_at_equal_quotas_and_with_the_same_refit_elimination_keeps_more_than_l1_and_l1_more_than_random(tmp_path):
    same = ("pruner.sparsity=0.9", "schedule.retrain.epochs=0", "allocation@pruner.allocation=layer_quota")
    assert mint_run(tmp_path, "pruner=elimination", *same).returncode == 0
    for pruner in ("l1", "random"):
        assert mint_run(tmp_path, f"pruner={pruner}", "compensation@pruner.compensation=sequential", *same).returncode == 0
    kept = {record["pruner"]: record["accuracy"]["pruned"] for record in records(tmp_path)}
    assert kept["elimination"] > kept["l1"] + 0.05 > kept["random"] + 0.05


def test_two_runs_at_once_both_finish_with_one_training(tmp_path):
    command = [sys.executable, "-m", "mint_cli.main", *QUICK]
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}
    jobs = [subprocess.Popen([*command, f"pruner={p}"], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) for p in ("l1", "random")]
    assert [job.wait(300) for job in jobs] == [0, 0]
    assert [len(finished(tmp_path, s)) for s in STAGES] == [1, 2, 2, 2]


BAD = {
    "pruner=gmo": "options:.*gmi",
    "pruner.sparsty=0.5": "pruner.sparsty.*did you mean pruner.sparsity",
    "++pruner.criterion.sample_per_class=3": "did you mean samples_per_class",
    "pruner.sparsity=1.0": r"pruner.sparsity must lie in \[0, 1\), not 1.0",
    "pruner.groups=0": "pruner.child_groups must lie between 1 and .*not 0",
    "pruner.groups=41": "must lie between 1 and .*not 41",
    "schedule.train.epochs=-1": "epochs must be at least 0, not -1",
    "pruner.samples_per_class=5000": "samples_per_class must lie between 1 and .*not 5000",
    "seed=zero": "seed must be int",
    "model.weights=absent.safetensors": "model.weights must name a checkpoint file.*absent.safetensors",
    "pruner.cap=0.5": "at most 0.5",
    "pruner.skip=[fc9]": "fc1, fc2, fc3.*not fc9",
    "device=cuda:99": "device",
    "seed=-1": "seed must be at least 0, not -1",
    "schedule.train.label_smoothing=2.0": r"label_smoothing must lie in \[0, 1\], not 2.0",
    "pruner.batch_norm_images=-200": "batch_norm_images must be 0 or lie between 2 and .*not -200",
    "++pruner.caps={fc_2: 0.5}": "pruner.caps names layer fc_2.*did you mean fc2",
    "pruner.child_groups={default: 5, fc_1: 3}": "pruner.child_groups names layer fc_1.*did you mean fc1",
    "pruner.caps={fc2: 0.5}": r"a layer is added by '\+\+pruner.caps=\{fc2: …\}'",
    "pruner.groups.fc3=5": r"a layer is added by '\+\+pruner.groups=\{default: …, fc3: …\}'",
    "++pruner.caps={1: 0.5}": "pruner.caps names layer 1, .* it has fc1, fc2, fc3",
    "pruner=elimination pruner.compensation.ridge=0": "ridge must be above 0, not 0",
    "pruner=elimination pruner.calibration_positions=0": "calibration_positions must be at least 1, not 0",
    "pruner=elimination pruner.compensation.batch_size=0": "batch_size of eliminate must be at least 1, not 0",
}


@pytest.mark.parametrize("override", BAD)
def test_bad_input_fails_with_one_sentence_and_leaves_no_artifact(tmp_path, override):
    import re

    result = mint_run(tmp_path, *QUICK, *([override] if "{" in override else override.split()))
    assert result.returncode == 1
    sentence = result.stderr.strip().splitlines()[-1]
    assert re.search(BAD[override], sentence) and sentence.startswith("mint-run: ") and "Traceback" not in result.stderr
    assert not list(tmp_path.rglob("*.safetensors")) and not records(tmp_path)


@pytest.mark.parametrize(
    "override",
    [
        "device=cpu:0",
        "pruner.skip=[fc3]",
        "model.hidden=[100]",
        "pruner.groups={default: 20, fc3: 10}",
        "++pruner.caps={fc2: 0.5, fc3: 0.5}",
    ],
)
def test_settings_by_layer_work_with_the_default_network(tmp_path, override):
    quick = [q for q in QUICK if "groups" not in q or "groups" not in override]
    result = mint_run(tmp_path, *quick, "pruner=l1", "pruner.sparsity=0.5", override)
    assert result.returncode == 0, result.stderr


def test_an_interrupted_job_of_a_sweep_is_named_below_its_table(tmp_path):
    command = [
        sys.executable,
        "-m",
        "mint_cli.main",
        "-m",
        *QUICK,
        "pruner=l1",
        "schedule.retrain.epochs=0,100000",
        "hydra.sweep.dir=sweep",
    ]
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}
    job = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    try:
        while not (tmp_path / "sweep" / "1" / "status.json").exists():
            time.sleep(0.05)
            assert job.poll() is None
        job.send_signal(signal.SIGINT)
        assert "Unfinished, without a record of its own: sweep/1: running" in job.communicate(timeout=60)[0]
    finally:
        job.kill()


def test_missing_data_is_told_with_the_files_that_are_expected(tmp_path):
    result = mint_run(tmp_path, "dataset=mnist", "data=nowhere", https_proxy="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9")
    assert result.returncode == 1 and "nowhere/MNIST/raw" in result.stderr and "train-images-idx3-ubyte" in result.stderr


def test_a_store_that_cannot_be_written_is_reported_with_its_path(tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = mint_run(tmp_path, *QUICK, "store=file/store")
    assert result.returncode == 1 and "cannot use file/store" in result.stderr


def test_a_failing_job_of_a_sweep_does_not_stop_the_others_and_is_named(tmp_path):
    result = mint_run(tmp_path, "-m", "pruner=l1", "pruner.groups=0,5", *[q for q in QUICK if "groups" not in q])
    assert result.returncode == 1 and len(records(tmp_path)) == 1 and "not 0" in result.stdout + result.stderr
    states = [json.loads(p.read_text())["state"] for p in sorted(tmp_path.rglob("status.json"))]
    assert sorted(states) == ["completed", "failed"]
    table = result.stdout[result.stdout.index("| sparsity.total") :]  # the sweep's own table ends it
    assert "80.00 (1)" in table and "/0: failed (pruner.child_groups must lie between" in table


def test_a_setting_that_only_the_swept_pruners_have_is_told_how_to_write(tmp_path):
    result = mint_run(tmp_path, "-m", "pruner=l1,taylor", "pruner.criterion.normalise=true", *QUICK)
    assert result.returncode == 1 and "++pruner.criterion.normalise" in result.stderr.strip().splitlines()[-1]


def test_help_lists_the_groups_a_user_chooses_from(tmp_path):
    result = mint_run(tmp_path, "--help")
    assert result.returncode == 0 and "pruner: " in result.stdout and "mint-run" in result.stdout
    assert mint_run(tmp_path, "--cfg", "job").stdout.startswith("seed: 0")


def test_help_does_not_import_what_is_heavy(tmp_path):
    code = (
        "import sys\nfrom mint_cli.main import main\ntry: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'sklearn', 'numba') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, "--help"]
    result = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
    )
    assert result.stdout.strip().endswith("[]")


def test_shell_completion_offers_the_options_of_a_group(tmp_path):
    result = mint_run(tmp_path, "-sc", "query=bash", COMP_LINE="mint-run pruner=", COMP_POINT="16")
    assert result.returncode == 0 and "pruner=gmi" in result.stdout


def test_several_rounds_reach_the_asked_sparsity_and_keep_what_was_removed_removed(tmp_path):
    assert mint_run(tmp_path, *QUICK, "pruner=l1", "schedule.rounds=2").returncode == 0
    (record,) = records(tmp_path)
    assert abs(record["sparsity"]["total"] - 0.8) < 1e-3 and len(finished(tmp_path, "prune")) == 2
    spent = [json.loads((folder / "seconds.json").read_text()) for folder in finished(tmp_path, "retrain")]
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
    result = mint_run(tmp_path, f"model={model}", "dataset=mnist", "pruner=gmi", *settings, f"data={mnist_root()}")
    assert result.returncode == 0, result.stderr
    (record,) = records(tmp_path)
    assert record["accuracy"]["dense"] > 0.9 and record["accuracy"]["retrained"] > 0.9
