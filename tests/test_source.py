import importlib
import inspect
import sys
from pathlib import Path

import pytest
import torch

from mint_cli import source
from mint_cli.allocation.layer_quota import layer_quota
from mint_cli.errors import SettingError, sentence
from mint_cli.model.lenet5 import lenet5

PLUGIN = "from mine.helper import scale\n\n\ndef score(x, /, *, a):\n    return -a * scale(x)\n"
HELPER = "from . import deep\n\n\ndef scale(x):\n    return deep.FACTOR * x\n"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A package of one's own: a plug-in, its helper, and the helper's helper."""
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path, PLUGIN, HELPER, "FACTOR = 2\n")
    yield tmp_path
    forget()


def write(tree, plugin=None, helper=None, deep=None):
    (tree / "mine").mkdir(exist_ok=True)
    texts = {"__init__": "", "plugin": plugin, "helper": helper, "deep": deep}
    for name, text in texts.items():
        if text is not None:
            (tree / "mine" / f"{name}.py").write_text(text)


def forget():
    for name in [m for m in sys.modules if m.split(".")[0] == "mine"]:
        del sys.modules[name]


def digest() -> str:
    """Of the plug-in as a new process would import it."""
    forget()
    importlib.invalidate_caches()
    return source.digest(importlib.import_module("mine.plugin").score)


def test_code_that_says_the_same_in_two_folders_has_the_same_digest(tree, tmp_path_factory):
    before = digest()
    (tree / "mine").rename(tree / "away")
    other = tmp_path_factory.mktemp("other")
    write(other, PLUGIN, HELPER, "FACTOR = 2\n")
    sys.path.insert(0, str(other))
    try:
        assert digest() == before
    finally:
        sys.path.remove(str(other))


@pytest.mark.parametrize(
    "texts",
    [
        {"plugin": PLUGIN.replace("-a", "a")},
        {"helper": HELPER.replace("*", "+")},
        {"deep": "FACTOR = 3\n"},
    ],
    ids=["the plug-in", "a file that it imports", "a file that this one imports"],
)
def test_a_change_of_code_in_the_folder_tree_of_a_plug_in_changes_its_digest(tree, texts):
    before = digest()
    write(tree, **texts)
    assert digest() != before


def test_comments_docstrings_and_blank_lines_change_no_digest(tree):
    before = digest()
    documented = PLUGIN.replace("a):\n", 'a):\n    """Two\n\n    paragraphs."""\n\n    # why\n')
    write(tree, f'"""What it is."""\n\n{documented}', f"# helper\n{HELPER}")
    assert digest() == before


def test_a_file_that_the_plug_in_does_not_import_changes_no_digest(tree):
    before = digest()
    (tree / "mine" / "other.py").write_text("x = 1\n")
    assert digest() == before


def test_an_installed_package_in_the_same_folder_tree_is_no_helper(tree):
    site = tree / "site-packages"
    site.mkdir()
    (tree / "mine").rename(site / "mine")
    sys.path.insert(0, str(site))
    try:
        before = digest()
        write(site, helper=HELPER.replace("*", "+"))
        assert digest() == before
    finally:
        sys.path.remove(str(site))


def test_an_edit_counts_from_when_the_plug_in_is_imported_again(tree):
    before = digest()
    module = sys.modules["mine.plugin"]
    write(tree, PLUGIN.replace("-a", "a"))
    assert source.digest(module.score) == before
    assert source.digest(importlib.reload(module).score) != before


def test_imports_that_lead_nowhere_are_no_helpers(tree):
    write(
        tree, f"{PLUGIN}\n\ndef f():\n    from ... import a\n    from .b import c\n    import d.e\n"
    )
    assert digest() == digest()


def test_a_helper_that_is_no_python_counts_by_its_text(tree):
    write(tree, "try:\n    from mine import broken\nexcept SyntaxError:\n    pass\n" + PLUGIN)
    digests = set()
    for text in ("print 1\n", "print 2\n"):
        (tree / "mine" / "broken.py").write_text(text)
        digests.add(digest())
    assert len(digests) == 2


@pytest.mark.parametrize("plugin", [layer_quota, lenet5])
def test_a_change_in_a_plug_in_of_this_package_changes_its_digest(plugin, monkeypatch):
    text = Path(inspect.getfile(plugin)).read_text()
    fresh = source.digest.__wrapped__
    before = fresh(plugin)
    changed = text + "\n# a comment\n"
    monkeypatch.setattr(inspect, "getsource", lambda module: changed)
    assert fresh(plugin) == before
    changed = text.replace(" * ", " + ", 1) if " * " in text else text.replace("5", "3", 1)
    assert changed != text and fresh(plugin) != before


def test_a_file_of_the_same_family_is_a_helper_and_one_of_a_lower_module_is_none(tmp_path):
    family = tmp_path / "mint_cli" / "criterion"
    family.mkdir(parents=True)
    text = "from mint_cli import store\nfrom mint_cli.criterion.shared import f\n"
    for file in (family / "shared.py", tmp_path / "mint_cli" / "store.py"):
        file.write_text("x = 1\n")
    found = source.with_helpers("mint_cli.criterion.one", family / "one.py", text)
    assert list(found) == ["mint_cli.criterion.one", "mint_cli.criterion.shared"]


def test_the_digest_of_a_text_is_what_it_was_when_the_format_was_fixed():
    """Whatever Python runs: stored artifacts stay valid as long as this digest stands."""
    text = "def f(a, /, *, b: int = 1, **c):\n    return [x for x in a if f'{x!r:>{b}}'], c['d']\n"
    assert source.digest_of({"f": source.meaning(text, "")[0]}) == "b52d3a3a9aec01efd6fd5166"


def made(factor):
    def inner(x):
        return factor * x

    return inner


twice = made(2)


@pytest.mark.parametrize("plugin", [lambda x: x, twice, torch.relu, Path("x").exists])
def test_what_no_module_holds_under_its_own_name_or_has_no_source_is_refused(plugin):
    with pytest.raises(SettingError) as refusal:
        source.qualified_name(plugin)
        source.digest(plugin)
    assert "cannot be a plug-in" in sentence(refusal.value)


def test_a_plug_in_typed_into_a_prompt_is_refused():
    exec("def typed(x):\n    return x\n", vars(sys.modules["__main__"]))
    typed = sys.modules["__main__"].typed
    typed.__module__ = "builtins"  # a module without a source
    sys.modules["builtins"].typed = typed
    try:
        with pytest.raises(SettingError, match=r"builtins.typed cannot be a plug-in: .* no source"):
            source.digest(typed)
    finally:
        del sys.modules["builtins"].typed, sys.modules["__main__"].typed
