"""``mint-run`` itself: what it writes, what it says, and how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commandline import ONE_THREAD, ROOT, mint_run

QUICK = ("pruner=l1", "model.hidden=[20]", "schedule.train.epochs=1", "schedule.retrain.epochs=0")


def found(folder: Path, name: str) -> list[dict]:
    return [json.loads(p.read_text()) for p in sorted(folder.rglob(name))]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT), **more}


def test_a_finished_run_says_completed_and_its_record_says_the_threads_that_it_was_made_with(tmp_path):
    result = mint_run(tmp_path, *QUICK)
    assert result.returncode == 0 and not result.stderr.strip(), result.stderr
    (status,), (record,) = found(tmp_path, "status.json"), found(tmp_path, "record.json")
    assert status["state"] == "completed" and status["seconds"] > 0
    assert record["threads"] == record["config"]["threads"] == record["environment"]["threads"] == 1
    assert record["schema"] == 2 and record["config"]["pruner"]["granularity"]["child_groups"] == 10


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("pruner.sparsity=1.5", "pruner.sparsity must lie in [0, 1), not 1.5"),
        ("seed=0,1", "seed=0,1 is a sweep, which needs the option -m (mint-run -m …); a list is written seed=[…]"),
        ("checkpoint=net(1)=a.pt", "net(1)=a.pt"),
        ("pruner=gmo", "there is no pruner/gmo; options: "),
        ("dataset._target_=os.system", "dataset._target_ must name a dataset function; os.system is a"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_a_job_that_began_says_failed(tmp_path, override, sentence):
    result = mint_run(tmp_path, *QUICK, override)
    (line,) = result.stderr.strip().splitlines()
    assert result.returncode == 1 and line.startswith("mint-run: ") and sentence in line
    assert not list(tmp_path.rglob("*.safetensors")) and not found(tmp_path, "record.json")
    assert all(s["state"] == "failed" and sentence in s["error"] for s in found(tmp_path, "status.json"))


@pytest.mark.parametrize(
    "streams",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["ascii streams", "C locale"],
)
def test_streams_that_are_not_utf_8_take_what_is_said(tmp_path, streams):
    result = mint_run(tmp_path, *QUICK, **streams)
    assert result.returncode == 0 and "agreement of two halves \\u2013" in result.stdout
    assert "–" in next(tmp_path.rglob("mint-run.log")).read_text(encoding="utf-8")
    result = mint_run(tmp_path, *QUICK, "checkpoint=größe–ß.pt", **streams)
    assert result.returncode == 1 and "Traceback" not in result.stderr and ".pt" in result.stderr


def test_a_job_in_a_folder_of_its_own_finds_and_leaves_files_where_the_command_was_typed(tmp_path):
    result = mint_run(tmp_path, *QUICK, "hydra.job.chdir=true", "store=kept")
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "kept" / "train").iterdir()) and found(tmp_path / "outputs", "record.json")


def test_a_plug_in_that_leaves_the_program_fails_its_job_only(tmp_path):
    (tmp_path / "leaving.py").write_text("import sys\n\n\ndef model(shape, classes, /):\n    sys.exit(3)\n")
    target = "model={_target_: leaving.model}"
    result = mint_run(tmp_path, "pruner=l1", "~model.hidden", "~model.dropout", "model._target_=leaving.model")
    assert result.returncode == 1, (target, result.stdout)
    (status,) = found(tmp_path, "status.json")
    assert status["state"] == "failed" and "SystemExit" in status["error"]


def start(folder: Path, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "mint_cli.main", *overrides]
    return subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip


def test_an_interrupted_run_says_so_and_how_to_go_on(tmp_path):
    job = start(tmp_path, *QUICK, "schedule.train.epochs=100000")
    try:
        until = time.monotonic() + 120
        while not found(tmp_path, "status.json") and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(1)
        job.send_signal(signal.SIGINT)
        said = job.communicate(timeout=60)[1]
    finally:
        job.kill()
    assert job.returncode == 130 and said.strip().startswith("mint-run: interrupted") and "Traceback" not in said
    assert [s["state"] for s in found(tmp_path, "status.json")] == ["interrupted"]


def test_two_jobs_in_one_folder_leave_one_whole_record_and_nothing_half_written(tmp_path):
    jobs = [start(tmp_path, *QUICK, "hydra.run.dir=same", f"seed={seed}") for seed in (0, 1)]
    assert [job.wait(300) for job in jobs] == [0, 0]
    assert len(found(tmp_path, "record.json")) == 1
    names = {p.name for p in (tmp_path / "same").iterdir()}
    assert names == {".hydra", "mint-run.log", "record.json", "status.json"}


def test_a_sweep_may_be_typed_anywhere_and_mix_numbers_with_mappings_and_its_failures_are_named(tmp_path):
    groups = "pruner.groups=5,0,{default:10,fc2:2}"
    result = mint_run(tmp_path, *QUICK, "-m", groups)
    assert result.returncode == 1 and "Error executing job" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("mint-run: ")]
    assert "pruner.groups must lie between 1 and 20, the channels of layer fc1, not 0" in line
    assert [s["state"] for s in found(tmp_path, "status.json")] == ["completed", "failed", "completed"]
    assert [r["config"]["pruner"]["groups"] for r in found(tmp_path, "record.json")] == [5, {"default": 10, "fc2": 2}]


def test_a_pipe_that_is_closed_early_is_no_fault(tmp_path):
    job = start(tmp_path, *QUICK)
    job.stdout.close()
    said = job.stderr.read()
    assert job.wait(300) == 0 and "Traceback" not in said and "Logging error" not in said


def test_a_folder_that_cannot_be_written_is_told_with_its_name(tmp_path):
    (tmp_path / "outputs").write_text("in the way")
    result = mint_run(tmp_path, *QUICK)
    assert result.returncode == 1 and re.search("^mint-run: cannot use .*outputs.*", result.stderr)


def test_a_full_disk_is_told_with_a_path_and_leaves_nothing_half_written(tmp_path):
    limited = (
        "import resource, signal, mint_cli.files as files\n"
        "put = files.put\n"
        "def full(path, data):\n"
        "    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n"
        "    try: put(path, data)\n"
        "    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "files.put = full\n"
        "from mint_cli.main import main\nmain()"
    )
    command = [sys.executable, "-c", limited, *QUICK]
    result = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300)
    (line,) = result.stderr.strip().splitlines()
    assert result.returncode == 1 and re.search("^mint-run: cannot use .*/status.json: File too large$", line)
    assert not [p for p in tmp_path.rglob("*") if ".json" in p.name]


def test_help_lists_the_groups_a_user_chooses_from_and_imports_nothing_heavy(tmp_path):
    code = (
        "import sys\nfrom mint_cli.main import main\ntry: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'sklearn', 'numba') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, "--help"]
    result = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    assert "pruner: " in result.stdout and "mint-run" in result.stdout and result.stdout.strip().endswith("[]")


def test_shell_completion_and_the_configuration_can_be_asked_for(tmp_path):
    offered = mint_run(tmp_path, "-sc", "query=bash", COMP_LINE="mint-run pruner=", COMP_POINT="16")
    assert offered.returncode == 0 and "pruner=gmi" in offered.stdout
    assert mint_run(tmp_path, "--cfg", "job").stdout.startswith("seed: 0")
