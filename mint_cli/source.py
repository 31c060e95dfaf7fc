"""What a plug-in's code says, as a digest: any change counts, comments and docstrings do not."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, reduce
from pathlib import Path
from typing import Any

from mint_cli.errors import SettingError

PACKAGE = __name__.partition(".")[0]


def is_ours(module: str) -> bool:
    """Whether a module belongs to this package."""
    return module.partition(".")[0] == PACKAGE


def qualified_name(plugin: Callable) -> str:
    """Module and name of a plug-in; SettingError where its module does not hold it under that name.

    Two lambdas, or two results of one function, would bear the same name and be taken for each
    other.
    """
    module = getattr(plugin, "__module__", None)
    name = getattr(plugin, "__qualname__", type(plugin).__qualname__)
    try:
        held = reduce(getattr, name.split("."), sys.modules[module])
    except (AttributeError, KeyError):
        held = None
    if held != plugin:
        bound = "cannot be a plug-in: no module holds it under its own name"
        raise SettingError(f"{module}.{name}", bound)
    return f"{module}.{name}"


@cache  # a function stands for the code it was imported with, even if its file changes later
def digest(plugin: Callable) -> str:
    """24 hex digits of SHA-256 over the code of a plug-in's module and of its helpers.

    Helpers are the modules that it imports, however deep: of this package those of its own folder,
    elsewhere those of the same folder tree, installed packages left out.  What is imported by a
    computed name is not seen.  SettingError where there is no source to read.
    """
    module = sys.modules[plugin.__module__]
    try:
        text, file = inspect.getsource(module), Path(inspect.getfile(module)).resolve()
    except (OSError, TypeError):
        bound = "cannot be a plug-in: its module has no source, by which its results are known"
        raise SettingError(qualified_name(plugin), bound) from None
    name = getattr(module.__spec__, "name", None) or module.__name__  # __main__ may have another
    return digest_of(with_helpers(name, file, text))


def digest_of(code: dict[str, Any]) -> str:
    """Digest of what modules say, by their names."""
    return hashlib.sha256(repr(sorted(code.items())).encode()).hexdigest()[:24]


def with_helpers(first: str, file: Path, text: str | bytes) -> dict[str, Any]:
    """What a module and its helpers say, by their names."""
    above = first.count(".") + (file.stem == "__init__")
    root = file.parents[min(above, len(file.parents) - 1)]
    found, waiting = {}, [(first, file, text)]
    while waiting:
        name, file, text = waiting.pop()
        found[name], names = meaning(text, name if file.stem == "__init__" else parent(name))
        for other in {first, *names} if may_have_helpers(first, root) else ():
            for module in packages_of(other):
                if module not in found and may_help(module, first):
                    waiting += [(module, path, path.read_bytes()) for path in files(root, module)]
    return found


def parent(name: str) -> str:
    return name.rpartition(".")[0]


def may_have_helpers(name: str, root: Path) -> bool:
    """Whether a module is one's own: neither installed nor Python's."""
    installed = {"site-packages", "dist-packages"} & set(root.parts)
    return is_ours(name) or not (installed or name.partition(".")[0] in sys.stdlib_module_names)


def may_help(module: str, first: str) -> bool:
    """Whether a module is near enough to the first to be its helper."""
    return parent(module) == parent(first) if is_ours(first) else not is_ours(module)


def packages_of(name: str) -> list[str]:
    """The packages that lie around a module, and the module."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]


def files(root: Path, module: str) -> list[Path]:
    """The file of a module below a folder, if it is there."""
    place = root.joinpath(*module.split("."))
    both = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    return [path for path in both if path.is_file()][:1]


def meaning(text: str | bytes, package: str) -> tuple[Any, list[str]]:
    """What a module says, and the absolute names of what its import statements name."""
    try:
        tree = ast.parse(text)
        return plain(tree), [*imports(tree, package)]
    except (SyntaxError, ValueError, RecursionError):  # no Python, or nested too deep: its text
        return text, []


def plain(node: Any) -> Any:
    """A syntax tree as nested tuples, alike in every version of Python.

    Strings that stand as statements (docstrings) are left out, and fields that are empty: newer
    versions have more of them.
    """
    if isinstance(node, list):
        return tuple(plain(one) for one in node if not is_string_statement(one))
    if not isinstance(node, ast.AST):
        return node
    fields = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
    return (type(node).__name__, *((name, plain(value)) for name, value in fields))


def is_string_statement(node: Any) -> bool:
    """Whether a statement is nothing but a string."""
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """The modules that import statements name; a name taken from one may be a module itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            with suppress(ImportError):  # beyond the top: it fails when it runs, too
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                yield from (f"{base}.{alias.name}" for alias in node.names)
