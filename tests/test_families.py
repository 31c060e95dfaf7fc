"""What a configuration may name, and what is refused before it is called."""

import re
import sys
from functools import partial

import pytest

from mint_cli import protocol
from mint_cli.errors import SettingError
from mint_cli.families import PASSED, made
from mint_cli.model.mlp import mlp
from mint_cli.training.recipe import Recipe

RECIPE = {
    "_target_": "mint_cli.training.recipe.Recipe",
    "epochs": 1, "batch_size": 2, "learning_rate": 0.1, "momentum": 0.9, "nesterov": True,
    "weight_decay": 0.0, "decay": "step", "milestones": [], "gamma": 0.1, "warmup": 0,
    "label_smoothing": 0.0, "precision": "float32", "compile": False,
}  # fmt: skip


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module of that text beside the tests; gone from Python's memory afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)

    yield write
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


def refusal(node, family="model") -> str:
    with pytest.raises(SettingError) as refused:
        made(node, family, "here")
    return str(refused.value)


def test_families_are_those_of_the_protocol_with_as_many_parameters():
    rows = [
        line.split("|")[1:3]
        for line in protocol.__doc__.splitlines()
        if "|" in line and "/" in line
    ]
    passed = {family.strip(): re.sub(r"\[.*?\]", "", text.split("/")[0]) for family, text in rows}
    shapes = {family: names.count(",") for family, names in passed.items()}
    shapes["rounds"] = shapes.pop("schedule")
    assert shapes == {family: len(names) for family, names in PASSED.items()}


@pytest.mark.parametrize("mark", [{"_partial_": True}, {}], ids=["marked partial", "unmarked"])
def test_a_plug_in_is_a_partial_of_its_function_whether_or_not_it_is_marked_so(mark):
    node = {"_target_": "mint_cli.model.mlp.mlp", **mark, "hidden": [3], "dropout": 0.5}
    plugin = made(node, "model", "model")
    assert isinstance(plugin, partial) and plugin.func is mlp
    assert plugin.keywords == {"hidden": [3], "dropout": 0.5}


def test_a_recipe_is_a_value_and_its_errors_name_the_place():
    assert isinstance(made(RECIPE, "recipe", "schedule.train"), Recipe)
    assert "here.epochs must lie between 0" in refusal(RECIPE | {"epochs": -1}, "recipe")
    assert "here.epoch is no setting of a recipe; did you mean epochs?" in refusal(
        RECIPE | {"epoch": 1}, "recipe"
    )
    without = {name: value for name, value in RECIPE.items() if name != "gamma"}
    assert "here.gamma is needed by a recipe" in refusal(without, "recipe")
    assert "here._target_ must be mint_cli.training.recipe.Recipe" in refusal(
        RECIPE | {"_target_": "pathlib.Path"}, "recipe"
    )


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("torch.load", r"takes \(shape, classes, /, \*, settings\); torch.load takes \(\)"),
        ("pathlib.Path.write_text", "cannot be imported: No module named 'pathlib.Path'"),
        ("sys.exit", "sys.exit is a builtin_function_or_method"),
        ("os.system", "os.system is a builtin_function_or_method"),
        ("builtins.eval", "builtins.eval is a builtin_function_or_method"),
        ("subprocess.Popen", "subprocess.Popen is a type"),
        ("mint_cli.criterion.l1.l1", r"takes \(model, cells, images, rng, /\)"),
        ("mint_cli.model.mlp.mpl", r"module mint_cli.model.mlp \(.*mlp.py\) has no mpl"),
        ("mint_cli.modl.mlp.mlp", "No module named 'mint_cli.modl'.*looked for beside"),
        ("absent_module.model", "No module named 'absent_module'; modules are looked for beside"),
        ("mlp", "must be written module.name, not 'mlp'"),
        ("mint_cli..mlp", "must be written module.name"),
        ("", "must be written module.name"),
        (None, "must name the model function as module.name, not null"),
        (5, "must name the model function as module.name, not 5"),
    ],
)
def test_a_target_that_is_no_plug_in_of_the_family_is_refused_by_name(
    target, sentence, capfd, tmp_path
):
    with pytest.raises(SettingError, match=sentence):
        made({"_target_": target, "path": str(tmp_path / "written")}, "model", "here")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("node", [None, 5, "text", [1]], ids=str)
def test_a_plug_in_that_is_no_mapping_is_refused(node):
    assert "here must be a group of settings of the family model" in refusal(node)


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden": {"_target_": "evil.f"}},
        {"hidden": [{"_target_": "evil.f"}]},
        {"hidden": {"deep": [[{"_target_": "evil.f"}]]}},
    ],
    ids=["mapping", "list", "deep"],
)
def test_a_target_where_no_plug_in_belongs_is_refused_before_its_module_is_imported(
    module, settings
):
    module("evil", "raise RuntimeError('imported')")
    found = refusal({"_target_": "mint_cli.model.mlp.mlp", "dropout": 0.2, **settings})
    assert "here.hidden is no place for a plug-in" in found and "evil" not in sys.modules


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("raise ValueError('why')", "broken.f cannot be imported: ValueError: why"),
        ("import sys; sys.exit(3)", "broken.f cannot be imported: SystemExit: 3"),
        ("def f(:", "broken.f cannot be imported: SyntaxError"),
        (
            "import absent_dependency",
            "broken.f cannot be imported: No module named 'absent_dependency'$",
        ),
        ("f = 5", "broken.f is a int"),
        ("def f(shape, classes, *, width): ...", r"broken.f takes \(\)"),
        ("def f(shape, classes, more, /): ...", r"broken.f takes \(shape, classes, more, /\)"),
    ],
)
def test_a_module_of_ones_own_that_does_not_work_is_told_with_the_reason(module, text, sentence):
    module("broken", text)
    with pytest.raises(SettingError, match=sentence):
        made({"_target_": "broken.f"}, "model", "here")
