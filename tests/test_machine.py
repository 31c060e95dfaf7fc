"""Where a run takes place: device, precision, threads, folders that can be written."""

import io
import os
import subprocess
import sys

import pytest
import torch
from commandline import ROOT

from mint_cli import machine
from mint_cli.errors import SettingError


@pytest.mark.parametrize("name", ["meta", "mps", "abc", "cuda:99", "cpu:5", "", "cpu:x"])
def test_a_device_that_is_not_there_is_refused_by_name(name):
    with pytest.raises(SettingError, match=f"device must .*, not {name}"):
        machine.device_named(name)


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_the_cpu_is_a_device(name):
    assert machine.device_named(name).type == "cpu"


@pytest.mark.parametrize(
    ("units", "precision"),
    [
        ({}, "float32"),
        ({"avx2": True}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
    ],
)
def test_bfloat16_is_for_cpus_with_units_for_it(monkeypatch, units, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    assert machine.fast_precision(torch.device("cpu")) == precision


@pytest.mark.parametrize(
    ("quota", "count"),
    [
        ("max 100000", 6),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("1000 100000", 1),
        ("900000 100000", 6),
    ],
)
def test_cores_are_those_that_the_process_is_bound_to_and_that_its_container_grants(
    monkeypatch, tmp_path, quota, count
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert machine.cores(tmp_path / "cpu.max") == count
    assert machine.cores(tmp_path / "absent") == 6


def test_small_networks_get_one_thread_and_large_ones_all_that_there_are():
    digits, mnist, resnet = (185_810, 64), (545_810, 784), (853_018, 3072)
    assert [machine.threads_for(*work, 8) for work in (digits, mnist, resnet)] == [1, 8, 8]
    assert machine.threads_for(*resnet, 1000) == machine.MOST_THREADS


@pytest.mark.parametrize("threads", [0, -1, 100_000])
def test_threads_that_no_machine_has_are_refused(threads):
    with pytest.raises(
        SettingError, match=f"threads must be null or lie between 1 and .*, not {threads}"
    ):
        machine.check_threads(threads)


def test_threads_are_those_that_torch_and_the_kernels_use(monkeypatch):
    import numba

    from mint_cli.kernel import cpu  # noqa: F401

    before = torch.get_num_threads(), numba.get_num_threads()
    try:
        machine.use(torch.device("cpu"), 1)
        assert (torch.get_num_threads(), numba.get_num_threads()) == (1, 1)
        machine.use(torch.device("cpu"), 2)
        most = min(2, numba.config.NUMBA_NUM_THREADS)
        assert (torch.get_num_threads(), numba.get_num_threads()) == (2, most)
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_streams_write_any_character_in_any_encoding(monkeypatch, encoding):
    written = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, raw in written.items():
        monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, encoding=encoding))
    machine.prepare()
    for name in written:
        print("±–é\udcff", file=getattr(sys, name), flush=True)
    assert all(b"\\u2013" in raw.getvalue() for raw in written.values())


def blocked(folder):
    """A folder in whose place a file is: nothing can be made in it, not even by root."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("")
    return folder


def test_compiled_functions_go_to_a_temporary_folder_where_no_other_can_be_written(
    monkeypatch, tmp_path
):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(machine, "numba_folders", lambda: [blocked(tmp_path / "a"), tmp_path / "b"])
    machine.prepare()
    assert "NUMBA_CACHE_DIR" not in os.environ
    monkeypatch.setattr(machine, "numba_folders", lambda: [tmp_path / "a", blocked(tmp_path / "c")])
    machine.prepare()
    assert os.path.isdir(os.environ["NUMBA_CACHE_DIR"])


def test_waiting_threads_sleep_unless_the_user_wants_otherwise(monkeypatch):
    for given, kept in ((None, "passive"), ("active", "active")):
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
        if given:
            monkeypatch.setenv("OMP_WAIT_POLICY", given)
        machine.prepare()
        assert os.environ["OMP_WAIT_POLICY"] == kept


def test_the_command_line_sets_the_waiting_before_torch_is_imported():
    code = "import sys, mint_cli.main; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert result.stdout.strip() == "False", result.stderr


def test_a_commit_is_told_in_a_checkout_only(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "HERE", tmp_path / "site-packages" / "mint_cli")
    assert machine.commit() is None
    monkeypatch.setattr(
        machine, "git", lambda *arguments: "abc" if arguments[0] == "rev-parse" else "M file"
    )
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "pyproject.toml").write_text("")
    assert machine.commit() == "abc+"


def test_the_environment_names_every_package_and_the_device():
    found = machine.environment(torch.device("cpu"))
    assert set(machine.PACKAGES) <= found.keys() and found["device"].startswith("cpu (")
    assert found["torch"] and machine.version("absent-package") is None


def test_threads_may_be_chosen_after_numba_is_there_and_before_it_compiles(tmp_path):
    program = (
        "import torch; from numba import njit; from mint_cli import machine\n"
        "from mint_cli.kernel.threads import as_many_as_torch\n"
        "machine.use(torch.device('cpu'), 1)\n"
        "with as_many_as_torch():\n"
        "    assert njit(lambda x: x + 1)(1) == 2\n"
        "assert torch.get_num_threads() == 1\n"
    )
    own = {k: v for k, v in os.environ.items() if k != "NUMBA_NUM_THREADS"}
    own |= {"PYTHONPATH": str(ROOT), "NUMBA_CPU_COUNT": "3"}
    done = subprocess.run([sys.executable, "-c", program], env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
