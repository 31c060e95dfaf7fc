"""From a configuration to an experiment, and every odd value to one sentence."""

import json
import math
from functools import cache
from pathlib import Path

import pytest
import sklearn.datasets
import torch
from commandline import composed
from omegaconf import OmegaConf
from torch import nn

from mint_cli import check, machine
from mint_cli.commandline import message, parse, readable
from mint_cli.compose import build, job_of, size_of, typed, typed_name
from mint_cli.experiment import plan


@pytest.fixture(autouse=True, scope="module")
def one_copy_of_the_digits():
    """Read scikit-learn's file once."""
    patch = pytest.MonkeyPatch()
    patch.setattr(sklearn.datasets, "load_digits", cache(sklearn.datasets.load_digits))
    yield
    patch.undo()


@cache
def base(*overrides: str):
    return composed(*overrides)


def with_override(cfg, text: str):
    """The configuration with one more override, set as Hydra does, without composing all anew."""
    parsed = parse(readable(text, []))
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))
    path = parsed.key_or_group
    if parsed.is_delete():
        parent, _, name = path.rpartition(".")
        del (OmegaConf.select(cfg, parent) if parent else cfg)[name]
    else:
        value = parsed.value()
        OmegaConf.update(
            cfg, path, OmegaConf.create(value) if isinstance(value, dict) else value, merge=True
        )
    return cfg


def outcome(cfg, *overrides: str) -> str:
    """``an experiment``, or the sentence that refuses it before any work."""
    try:
        for text in overrides:
            cfg = with_override(cfg, text)
        with typed(cfg):
            check.check(job_of(cfg, Path("/nowhere")).experiment)
    except Exception as error:
        found = message(error, [])
        assert found is not None, (overrides, repr(error))
        assert "\n" not in found and len(found) < 500, found
        return found
    return "an experiment"


ODD = [
    "null", "5", "-1", "0", "1.5", "1e9", "99999999999999999999", "9" * 5000, "nan", "inf",
    "text", "''", "true", "[]", "[1,-1]", "{a: 1}", "{_target_: os.getcwd}",
]  # fmt: skip


def settings_of(value, path: str = ""):
    """Every group and every setting of a configuration."""
    if path:
        yield path
    for name, one in value.items() if isinstance(value, dict) else ():
        yield from settings_of(one, f"{path}.{name}" if path else name)


def cases():
    """Every setting of three pruners and of more rounds, each once."""
    seen = set()
    for overrides in ((), ("pruner=gmi",), ("pruner=taylor", "rounds@schedule.rounds=geometric")):
        for path in settings_of(OmegaConf.to_container(base(*overrides), resolve=False)):
            if path not in seen and "_partial_" not in path:
                seen.add(path)
                yield pytest.param(overrides, path, id=path)


@pytest.mark.parametrize(("overrides", "path"), cases())
def test_every_odd_value_of_a_setting_is_an_experiment_or_one_sentence_that_names_it(
    overrides, path
):
    told = path.rpartition(".")[0] or path
    for text in [f"{path}={value}" for value in ODD] + [f"~{path}"]:
        found = outcome(base(*overrides), text)
        assert found == "an experiment" or told in found or "pruner." in found or path == "seed", (
            text,
            found,
        )


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("dataset.seed=-1", "dataset.seed must be at least 0, not -1"),
        ("schedule.train=5", "schedule.train must be a group of settings, not 5"),
        ("schedule.train=null", "schedule.train must be a group of settings, not null"),
        ("schedule.rounds=90", "schedule.rounds must be a group of settings, not 90"),
        ("schedule.train.epochs=-1", "schedule.train.epochs must lie between 0 and 100000, not -1"),
        ("schedule.train.epochs=1000000000", "schedule.train.epochs must lie between 0 and 100000"),
        (
            "schedule.retrain.epochs=two",
            "schedule.retrain.epochs must be a whole number, not 'two'",
        ),
        (
            "schedule.train.momentum=1.5",
            "schedule.train.momentum must lie between 0 and 0.9999, not 1.5",
        ),
        ("schedule.train.gamma=-1", "schedule.train.gamma must lie between 0 and"),
        ("schedule.train.gamma=inf", "schedule.train.gamma must be a finite number, not inf"),
        ("schedule.train.milestones=[3,1]", "schedule.train.milestones must rise"),
        (
            "schedule.retrain.precision=float16",
            "schedule.retrain.precision must be one of float32, bfloat16, auto, not",
        ),
        (
            "schedule.train.milestones=[a]",
            "schedule.train.milestones must be a list of whole numbers, not ['a']",
        ),
        ("dataset.std=[inf]", "dataset.std must be a finite number, not inf"),
        (
            "pruner.samples_per_class=nan",
            "pruner.samples_per_class must be a finite number, not nan",
        ),
        ("model.hidden=[100000000000]", "model has 7,500,000,000,010 weights"),
        (
            "model.hidden=[1000000000000000000]",
            "model cannot be built with these settings: Storage size",
        ),
        ("model.hidden=[1.5]", "model.hidden must be a list of whole numbers, not [1.5]"),
        ("~model._target_", "model._target_ must name the model function as module.name, not null"),
        ("pruner.criterion=null", "pruner.criterion must be a group of settings, not null"),
        ("threads=100000", "threads must be null or lie between 1 and"),
        ("threads=2.5", "threads must be a whole number or null, not 2.5"),
        ("device=cpu:5", "device must be auto, cpu, cuda or cuda:0, cuda:1, …, not cpu:5"),
        ("device=null", "device must be text, not null"),
        ("store=''", "store must be a path, not ''"),
        ("data=' '", "data must be a path, not ' '"),
        ("checkpoint=absent.pt", "checkpoint"),
        ("checkpoint_new=[fc3]", "checkpoint_new"),
        ("pruner.skip=[fc1,fc1]", "pruner.skip"),
        ("pruner.skip=[fc9]", "pruner.skip"),
        ("pruner.sparsity=1.5", "pruner.sparsity must lie in [0, 1), not 1.5"),
        (
            "pruner.groups=0",
            "pruner.groups must lie between 1 and 500, the channels of layer fc1, not 0",
        ),
        ("pruner.parent_groups=65", "pruner.parent_groups must lie between 1 and 64"),
        (
            "pruner.granularity.child_groups=0",
            "pruner.granularity.child_groups must lie between 1 and",
        ),
        ("pruner.calibration.images=5000", "pruner.calibration.images"),
        ("pruner.criterion.depth=0", "pruner.criterion.depth must be at least 1, not 0"),
        (
            "pruner.batch_norm_images=1",
            "pruner.batch_norm_images must be 0 or lie between 2 and 1237",
        ),
        ("sparsity=0.5", "sparsity is no setting"),
        ("pruner.foo=1", "pruner.foo is no setting; it has"),
        ("pruner.sparsty=1", "pruner.sparsty is no setting; did you mean sparsity?"),
        ("schedule.epochs=1", "schedule.epochs is no setting; it has rounds, train, retrain"),
        (
            "pruner.criterion.foo=1",
            "pruner.criterion.foo is no setting of elimination; it has calibration, depth",
        ),
        ("dataset.foo=1", "dataset.foo is no setting of digits"),
        (
            "schedule.train.epoch=1",
            "schedule.train.epoch is no setting of a recipe; did you mean epochs?",
        ),
        (
            "pruner.calibration.image=1",
            "pruner.calibration.image is no setting of a calibration; did you mean images?",
        ),
        ("seed=${absent}", "seed names absent, which is no setting"),
        ("seed=${seed}", "seed names itself"),
        ("seed=???", "seed cannot be resolved: Missing mandatory value"),
        ("seed=" + "9" * 5000, "seed must be a whole number, not '999"),
    ],
)
def test_a_bad_setting_is_told_before_any_work_in_one_sentence(override, sentence):
    assert sentence in outcome(base(), override)


@pytest.mark.parametrize(
    ("chosen", "override", "sentence"),
    [
        ("pruner=gmi", "pruner.samples_per_class=5000", "must lie between 1 and"),
        ("pruner=gmi", "pruner.criterion.samples_per_class=5000", "must lie between 1 and"),
        ("pruner=gmi", "pruner.criterion.features=all", "must be one of means, patches, not"),
        ("pruner=gmi", "pruner.cap=2", "must lie in [0, 1], not 2"),
        ("pruner=gmi", "pruner.criterion.estimator.splits=0", "must"),
        ("pruner=gmi", "pruner.criterion.estimator=null", "must be a group of settings"),
        ("rounds@schedule.rounds=cubic", "schedule.rounds.count=0", "must lie between 1 and 1000"),
        ("rounds@schedule.rounds=cubic", "schedule.rounds.count=1000000000", "must lie between 1"),
        ("pruner=l1", "pruner.sparsity=null", "must be a number for allocation capped_quota"),
    ],
)
def test_an_error_names_the_setting_that_the_user_types(chosen, override, sentence):
    setting = override.partition("=")[0]
    assert outcome(base(chosen), override).startswith(f"{setting} {sentence}")


def test_a_cap_that_stops_the_sparsity_is_told_as_the_sparsity_that_it_allows():
    assert outcome(base("pruner=gmi"), "pruner.cap=0.5").startswith(
        "pruner.sparsity can be at most 0.5"
    )


@pytest.mark.parametrize(
    "override",
    [
        "device=cpu:0",
        "pruner.skip=[fc3]",
        "pruner.skip=['fc*2']",
        "model.hidden=[100]",
        "pruner.groups={default: 20, fc3: 10}",
        "pruner.groups=null",
        "++pruner.caps={fc2: 0.5, fc3: 0.5}",
        "threads=2",
    ],
)
def test_what_the_documentation_says_a_setting_may_be_is_an_experiment(override):
    assert outcome(base("pruner=l1", "pruner.sparsity=0.5"), override) == "an experiment"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ("++pruner.caps={fc_2: 0.5}",),
            "pruner.caps names layer fc_2, which the network does not have; did you mean fc2?",
        ),
        (("pruner.child_groups={default: 5, fc_1: 3}",), "pruner.child_groups names layer fc_1"),
        (("++pruner.caps={1: 0.5}",), "pruner.caps names layer 1, which the network does not have"),
        (("++pruner.caps={fc1: 2}",), "pruner.caps"),
        (
            ("++pruner.caps={fc1: text}",),
            "pruner.caps must be a mapping to numbers, not {'fc1': 'text'}",
        ),
    ],
)
def test_a_setting_by_layer_names_the_layer_that_it_does_not_fit(overrides, sentence):
    assert sentence in outcome(base("pruner=l1", "pruner.groups=null"), *overrides)


@pytest.mark.parametrize(
    ("recipe", "batch_size", "told_of"),
    [("train", 1, True), ("retrain", 1, True), ("train", 2, False)],
)
def test_a_batch_of_one_is_refused_where_a_batch_norm_after_a_linear_layer_needs_two(
    monkeypatch, recipe, batch_size, told_of
):
    from mint_cli.stage.common import Network

    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10)).eval()
    monkeypatch.setattr(Network, "build", lambda self, state=None: network)
    found = outcome(
        base("pruner=l1", "pruner.groups=null"), f"schedule.{recipe}.batch_size={batch_size}"
    )
    assert (
        found.startswith(f"schedule.{recipe}.batch_size and the training images must be at least 2")
        is told_of
    )


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("criterion.calibration.images", "pruner.calibration.images"),
        ("granularity.child_groups", "pruner.groups"),
        ("train.epochs", "schedule.train.epochs"),
        ("rounds.count", "schedule.rounds.count"),
        ("dataset.seed", "seed"),
        ("sparsity", "pruner.sparsity"),
        ("pruner.sparsity", "pruner.sparsity"),
        ("checkpoint_key", "checkpoint_key"),
    ],
)
def test_a_setting_is_named_as_the_user_types_it_and_naming_it_twice_changes_nothing(setting, name):
    raw = OmegaConf.to_container(base(), resolve=False)
    assert typed_name(raw, setting) == name == typed_name(raw, name)


def test_a_setting_that_overrides_an_interpolation_keeps_its_own_name():
    raw = OmegaConf.to_container(
        with_override(base(), "pruner.granularity.child_groups=3"), resolve=False
    )
    assert typed_name(raw, "granularity.child_groups") == "pruner.granularity.child_groups"


@pytest.mark.parametrize(
    "path", ["pruner.cap", "dataset.std", "pruner.calibration.ridge", "schedule.train.gamma"]
)
@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_no_setting_of_any_plug_in_is_infinite_or_nan(path, value):
    text = f"{path}=[{value}]" if path == "dataset.std" else f"{path}={value}"
    assert f"must be a finite number, not {value}" in outcome(base(), text)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_that_are_set_stay(threads):
    job = job_of(with_override(base(), f"threads={threads}"), Path("/nowhere"))
    assert job.experiment.threads == job.settings["threads"] == threads


def test_threads_that_are_not_set_follow_the_work_and_are_in_the_record(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 6)
    small = job_of(base(), Path("/nowhere"))
    large = job_of(with_override(base(), "model.hidden=[5000,300]"), Path("/nowhere"))
    assert small.experiment.threads == small.settings["threads"] == 1
    assert large.experiment.threads == large.settings["threads"] == 6


@pytest.mark.parametrize("fast", ["float32", "bfloat16"])
def test_precision_auto_becomes_what_suits_the_device_and_a_typed_one_stays(monkeypatch, fast):
    monkeypatch.setattr(machine, "fast_precision", lambda device: fast)
    cfg = with_override(base(), "schedule.train.precision=auto")
    job = job_of(cfg, Path("/nowhere"))
    assert job.experiment.train.precision == job.settings["schedule"]["train"]["precision"] == fast
    assert job.experiment.retrain.precision == "float32"


def test_paths_start_at_the_folder_that_the_command_was_typed_in():
    cfg = base("data=files", "store=/else/where")
    job = job_of(cfg, Path("/typed/in"))
    assert job.experiment.data.root == Path("/typed/in/files") and job.store == Path("/else/where")
    assert job.settings["data"] == "files"


def test_the_configuration_of_a_record_makes_the_experiment_that_it_is_of():
    job = job_of(base("pruner=gmi"), Path("/nowhere"))
    again = build(json.loads(json.dumps(job.settings)), Path("/nowhere"))
    assert plan(again).rounds[-1].retrained.key == plan(job.experiment).rounds[-1].retrained.key


def test_a_network_that_cannot_be_built_without_values_is_built_with_them():
    class Computes:
        pixels = (1, 2, 2)

        class data:
            class splits:
                classes = 3

        @staticmethod
        def model(shape, classes):
            return nn.Linear(int(torch.ones(4).sum().item()), classes)

        @classmethod
        def build(cls):
            return cls.model(cls.pixels, 3)

    assert size_of(Computes) == 15


def test_building_a_network_to_count_its_weights_leaves_randomness_as_it_was():
    state = torch.random.get_rng_state()
    assert size_of(job_of(base(), Path("/nowhere")).experiment.network) > 0
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_network_larger_than_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: 4 * 185_000)
    assert "model has 185,810 weights with these settings" in outcome(base())
    assert math.isfinite(machine.memory())
