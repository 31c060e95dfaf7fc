"""Who imports whom: imports go down, and every module has its test file."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mint_cli"
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")

ARROWS = {  # exactly those that there are, from the bottom up
    "errors": "",
    "files": "",
    "protocol": "",
    "schedule": "errors",
    "report": "errors",
    "interpolation": "errors",
    "machine": "errors",
    "plain_yaml": "errors",
    "signatures": "errors",
    "model": "errors signatures",
    "source": "errors",
    "reliability": "protocol",
    "allocation": "errors protocol",
    "kernel": "errors protocol",
    "data": "errors machine protocol",
    "dataset": "data errors machine protocol",
    "estimator": "errors kernel protocol",
    "network": "data errors protocol signatures",
    "granularity": "errors network protocol",
    "solver": "data errors kernel network protocol signatures",
    "criterion": "data errors network protocol solver",
    "compensation": "errors network protocol solver",
    "store": "errors files protocol source",
    "inventory": "errors files store",
    "training": "data errors network protocol signatures store",
    "stage": "data errors granularity network packed protocol reliability solver store training",
    "check": "errors experiment network protocol signatures",  # experiment: its type alone
    "experiment": "check errors network signatures stage store training",
    "families": "errors signatures",
    "commandline": "errors plain_yaml report signatures",
    "compose": "errors experiment families interpolation machine network signatures stage",
    "correlation": "",
    "oracle": "check commandline compose correlation errors experiment files machine protocol "
    "report stage store",
    "study": "commandline compose errors plain_yaml report signatures",
    "packed": "errors network protocol",
    "export": "data errors families packed stage store",
    "main": "commandline compose experiment files machine report store",
    "preview": "allocation check criterion data errors experiment granularity network protocol",
    "prune": "commandline compose errors export machine main preview signatures",
}
FAMILIES = {
    *("dataset", "model", "granularity", "criterion", "estimator", "allocation"),
    *("compensation", "schedule"),
}
FIRST_ORDER = {
    "stage": {"granularity"},  # shrink looks at channels whatever was pruned
    "preview": {"granularity", "criterion", "allocation"},  # cheap ones stand for dear ones
}
ELSEWHERE = {"main": "test_end_to_end.py"}  # tested by commands as users type them


def name_of(path: Path) -> str:
    """The module's dotted name below the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def part_of(name: str) -> str:
    return name.partition(".")[0]


def imports(path: Path, typed: bool = True) -> set[str]:
    """Dotted names that a module imports; ``typed``: also those under ``if TYPE_CHECKING``."""
    found = set()
    tree = ast.parse(path.read_text())
    for node in tree.body if not typed else ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
    return found


def own(path: Path, typed: bool = True) -> set[str]:
    """Modules of the package that a module imports."""
    known = {name_of(p) for p in MODULES}
    found = {
        name.removeprefix("mint_cli.")
        for name in imports(path, typed)
        if name.startswith("mint_cli.")
    }
    return {name if name in known else name.rpartition(".")[0] for name in found}


def ids(path: Path) -> str:
    return name_of(path)


def test_parts_import_exactly_what_is_listed():
    found = {}
    for path in MODULES:
        part = part_of(name_of(path))
        found.setdefault(part, set()).update(part_of(name) for name in own(path))
    arrows = {part: " ".join(sorted(used - {part})) for part, used in found.items()}
    assert arrows == ARROWS


def test_no_module_imports_itself_by_way_of_others():
    """Modules, one by one; what is imported for its type alone is not imported when the program
    runs.
    """
    arrows = {name_of(path): own(path, typed=False) for path in MODULES}
    while arrows:
        bottom = {name for name, used in arrows.items() if not used}
        assert bottom, f"in a circle: {sorted(arrows)}"
        arrows = {name: used - bottom for name, used in arrows.items() if name not in bottom}


def test_plug_in_families_never_import_one_another():
    for part in FAMILIES:
        assert not set(ARROWS[part].split()) & FAMILIES
    above = {part: set(used.split()) & FAMILIES for part, used in ARROWS.items()}
    assert {part: used for part, used in above.items() if used} == FIRST_ORDER


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_every_module_has_its_test_file(path):
    name = name_of(path)
    mirrored = path.relative_to(PACKAGE).with_name(f"test_{path.name}")
    assert (Path(__file__).parent / ELSEWHERE.get(name, mirrored)).is_file()


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_only_the_command_line_imports_hydra(path):
    if part_of(name_of(path)) not in ("main", "compose", "commandline", "study"):
        assert not {n.split(".")[0] for n in imports(path)} & {"hydra", "omegaconf"}


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_nothing_unpickles_what_is_no_tensor_and_nothing_seeds_globally(path):
    text = path.read_text()
    assert "np.random.seed" not in text and "random.seed(" not in text
    assert "torch.load(" not in text or "weights_only=True" in text
    assert "pickle.load" not in text and "torch.manual_seed" not in text or "fork_rng" in text


KNOWING = ("main", "compose", "commandline", "study", "prune", "oracle", "report", "machine")


def texts(path: Path) -> set[str]:
    """Texts in a module's code, docstrings left out."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.FunctionDef, ast.ClassDef)
    docs = {ast.get_docstring(n, clean=False) for n in ast.walk(tree) if isinstance(n, documented)}
    found = {
        n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }
    return found - docs


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_low_modules_do_not_know_how_settings_are_written_on_the_command_line(path):
    if part_of(name_of(path)) not in KNOWING:
        assert not [text for text in texts(path) if "pruner." in text]
