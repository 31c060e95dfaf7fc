"""What the user types, as Hydra takes it, and what Hydra says, in one sentence."""

import os
from types import SimpleNamespace

import pytest
from commandline import composed
from omegaconf import OmegaConf

from mint_cli.commandline import Folders, arguments, import_from, message


@pytest.fixture(autouse=True)
def own_folders_only():
    """No test's folder is looked into by the next."""
    yield
    Folders.folders = []


def failed(*typed: str) -> str:
    """The sentence that a command line fails with while it is composed."""
    with pytest.raises(Exception) as error:
        composed(*typed)
    found = message(error.value, list(typed))
    assert found and "\n" not in found, repr(error.value)
    return found


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["a=1", "-m", "b=2"], ["-m", "a=1", "b=2"]),
        (["a=1", "--cfg", "job", "~b", "+c=3"], ["--cfg", "job", "a=1", "~b", "+c=3"]),
        (["--config-dir", "FOLDER", "a=1"], ["a=1"]),
        (["a=1", "--config-dir=FOLDER", "-m"], ["-m", "a=1"]),
        (["a=1", "a=1"], ["a=1", "a=1"]),
    ],
)
def test_options_may_stand_anywhere_and_come_first(tmp_path, argv, expected):
    argv = [part.replace("FOLDER", str(tmp_path)) for part in argv]
    assert arguments(argv)[0] == expected


def test_every_folder_of_configurations_counts_from_the_current_one(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path)
    assert arguments(["--config-dir", "one", "-cd", "two"])[1] == [
        tmp_path / "one",
        tmp_path / "two",
    ]


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("checkpoint=a=b.pt", "a=b.pt"),
        ("checkpoint=net(1).pth", "net(1).pth"),
        ("data=/a/(b)/c=d", "/a/(b)/c=d"),
        ("checkpoint=it's (1).pt", "it's (1).pt"),
        ("checkpoint=(back\\", "(back\\"),
        ("checkpoint=plain.pt", "plain.pt"),
        ("checkpoint='quoted=1'", "quoted=1"),
        ("++checkpoint=a=b", "a=b"),
    ],
)
def test_what_the_grammar_does_not_take_is_meant_literally(override, value):
    assert composed(override)[override.partition("=")[0].lstrip("+")] == value


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["pruner=gmo"], "there is no pruner/gmo; options: .*gmi"),
        (["pruner=null"], "pruner must be one of .*elimination, .*random, taylor, .*not null"),
        (["pruner=5"], "pruner must be one of .*, not 5"),
        (["pruner=[gmi,l1]"], r"pruner must be one of .*, not \['gmi', 'l1'\]"),
        (["~pruner"], "pruner must be one of .*, not null"),
        (["experiment=5"], "experiment must be one of .*, not 5"),
        (
            ["estimator@pruner.criterion.estimator=null"],
            "estimator@pruner.criterion.estimator must be one of .*ksg",
        ),
        (
            ["pruner.sparsty=0.5"],
            "there is no setting pruner.sparsty; did you mean pruner.sparsity?",
        ),
        (["sed=1"], "there is no setting sed; did you mean seed?"),
        (["pruner.caps={fc2: 0.5}"], r"a layer is added by '\+\+pruner.caps=\{fc2: …\}'"),
        (["pruner.groups.fc3=5"], "pruner.groups"),
        (
            ["seed=0,1"],
            r"seed=0,1 is a sweep, which needs the option -m .*; a list is written seed=\[…\]",
        ),
        (["seed=range(3)"], r"seed=range\(3\) is a sweep, which needs the option -m"),
        (["foo bar"], "foo bar sets nothing; a setting is written name=value"),
        (["=3"], "=3 sets nothing"),
        (["~"], "~ sets nothing"),
        (["pruner.groups"], "pruner.groups sets nothing"),
        (["--config-dir", "absent"], "--config-dir must name a folder, not absent"),
        (["seed=${absent}"], ""),
        (["--config-dir", "."], "config.yaml has the name of the main configuration; rename it"),
    ],
)
def test_a_command_line_that_cannot_be_composed_fails_with_one_sentence(
    typed, sentence, tmp_path, monkeypatch
):
    import re

    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 3\n")
    if sentence:
        assert re.search(sentence, failed(*typed))
    else:
        composed(*typed)  # told when it is resolved


@pytest.mark.parametrize("digits", [5_000])
def test_a_number_too_long_for_python_is_text(digits):
    assert composed(f"seed={'1' * digits}").seed == "1" * digits


def test_a_setting_that_only_the_swept_pruners_have_is_told_how_to_write():
    typed = ["pruner=l1,taylor", "pruner.criterion.normalise=true"]
    with pytest.raises(Exception) as error:
        composed("pruner.criterion.normalise=true")
    assert "written ++pruner.criterion.normalise=…" in message(error.value, typed)


def mine(folder, name: str, text: str):
    """A configuration of one's own, in a folder of one's own."""
    path = folder / "conf" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return f"--config-dir={folder / 'conf'}"


def test_a_file_of_the_same_name_wins_over_the_packages_own(tmp_path):
    option = mine(tmp_path, "recipe/sgd", "_target_: mint_cli.training.recipe.Recipe\nwarmup: 7\n")
    assert composed(option).schedule.train.warmup == 7
    assert composed().schedule.train.warmup == 0


def test_files_of_ones_own_may_build_on_the_packages(tmp_path):
    option = mine(tmp_path, "pruner/mine", "defaults: [l1]\ncriterion: {normalise: true}\n")
    assert composed(option, "pruner=mine").pruner.criterion.normalise is True


def test_a_main_configuration_of_ones_own_may_begin_with_the_packages(tmp_path):
    from hydra import compose, initialize_config_dir

    from mint_cli.commandline import CONF, look_first_in

    mine(tmp_path, "own", "defaults: [config, _self_]\nseed: 5\n")
    look_first_in([tmp_path / "conf"])
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose("own").seed == 5


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("pruner/mine", "a: [1\n", "pruner/mine.yaml, line 2: "),
        ("pruner/mine", "a: 1\na: 2\n", "line 2: key 'a' is there twice"),
        ("pruner/mine", "defaults: [l2]\n", "pruner/l2"),
        (
            "pruner/mine",
            "defaults: {a: 1}\n",
            "mine.yaml: defaults must be a list of names and of group: name",
        ),
        (
            "pruner/mine",
            "defaults: 5\n",
            "mine.yaml: defaults must be a list of names and of group: name",
        ),
        (
            "pruner/mine",
            "defaults: [[1]]\n",
            "mine.yaml: defaults must be a list of names and of group: name",
        ),
        (
            "pruner/mine",
            "defaults: [{5: 6}]\n",
            "mine.yaml: defaults must be a list of names and of group: name",
        ),
        ("pruner/mine", "defaults: [mine]\n", "configurations name one another"),
        ("pruner/mine", "a: {<<: 3}\n", "mine.yaml, line 1: expected a mapping"),
        ("pruner/mine", "a: ${\n", "mine.yaml: a: no viable alternative"),
        (
            "pruner/mine",
            "# @package _global_\nhydra: 5\n",
            "sets Hydra up, which only the command line may",
        ),
        ("pruner/mine", "# @package hydra.callbacks.mine\n_target_: os.getcwd\n", "sets Hydra up"),
        ("pruner/mine", "defaults: ['/estimator@hydra.callbacks.x': gmi]\n", "sets Hydra up"),
        ("hydra/job_logging/mine", "root: {handlers: []}\n", "there is no pruner/mine"),
        (
            "pruner/mine",
            "# @package _global_\nhydra: {callbacks: {mine: {_target_: os.getcwd}}}\n",
            "sets hydra.callbacks.mine, which only the command line may",
        ),
        (
            "pruner/mine",
            "# @package _global_\nhydra: {job: {env_set: {A: b}}}\n",
            "sets hydra.job.env_set, which only the command line may",
        ),
    ],
)
def test_a_configuration_of_somebody_elses_that_is_broken_or_sets_hydra_up_is_refused(
    tmp_path, name, text, sentence
):
    import re

    found = failed(mine(tmp_path, name, text), "pruner=mine")
    assert re.search(sentence, found)


def test_hydras_own_groups_are_not_taken_from_a_folder_of_somebody_elses(tmp_path):
    text = "root: {handlers: [evil]}\nhandlers: {evil: {(): os.getcwd}}\n"
    option = mine(tmp_path, "hydra/job_logging/mine", text)
    assert "sets Hydra up" in failed(option, "hydra/job_logging=mine")


def test_a_configuration_may_name_its_folders_and_its_sweep(tmp_path):
    own = "{mode: MULTIRUN, sweep: {dir: x}, sweeper: {params: {seed: '1,2'}}}"
    text = f"# @package _global_\nhydra: {own}\n"
    option = mine(tmp_path, "experiment/mine", text)
    assert composed(option, "experiment=mine").seed == 0


def test_plug_ins_are_found_beside_the_folder_and_in_the_current_one_after_what_is_installed(
    monkeypatch, tmp_path
):
    import sys

    monkeypatch.setattr(sys, "path", ["first"])
    sources = [
        SimpleNamespace(provider="main", path="/ours"),
        SimpleNamespace(provider="command-line", path="/a/conf"),
    ]
    runtime = SimpleNamespace(config_sources=sources, cwd="/here")
    import_from(runtime)
    import_from(runtime)
    assert sys.path == ["first", "/a", "/here"]


def test_an_error_of_ours_is_not_reduced_to_a_sentence():
    assert message(KeyError("x"), []) is None


def test_a_file_system_that_refuses_is_told_with_the_path(tmp_path):
    try:
        os.open(tmp_path / "absent" / "file", os.O_RDONLY)
    except OSError as error:
        assert (
            message(error, [])
            == f"cannot use {tmp_path / 'absent' / 'file'}: No such file or directory"
        )


def test_interpolated_settings_keep_their_interpolation():
    raw = OmegaConf.to_container(composed(), resolve=False)
    assert raw["pruner"]["child_groups"] == "${pruner.groups}"
