"""Who may import whom: imports go down."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mint_cli"
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py" or p.parent.name == "kernel")

BASE = {"protocol"}
ALLOWED = {
    "protocol": set(),
    "group": BASE,
    "images": BASE,
    "signal": BASE,
    "quota": BASE,
    "network": BASE | {"images"},
    "least_squares": BASE | {"images", "network", "group"},
    "replay": BASE | {"network"},
    "calibration": BASE | {"images", "network", "least_squares", "replay"},
    "elimination": BASE | {"group", "least_squares", "calibration"},
    "checkpoint": BASE,
    "kernel": BASE,
    "door": BASE | {"network"},
    "store": BASE,
    "training": BASE | {"images", "network", "store", "door"},
    "dataset": BASE | {"images"},
    "model": BASE,
    "criterion": BASE | {"group", "images", "network", "least_squares", "calibration", "elimination", "replay"},
    "estimator": BASE | {"kernel"},
    "allocation": BASE | {"quota"},
    "compensation": BASE | {"group", "images", "network", "least_squares", "calibration", "elimination", "replay"},
    "stage": BASE | {"checkpoint", "group", "images", "network", "signal", "store", "training"},
    "pipeline": BASE | {"door", "stage", "store", "training"},
    "faults": set(),
    "main": BASE | {"door", "faults", "pipeline", "stage", "store", "table"},
    "record": set(),
    "plot": set(),
    "layout": {"record"},
    "table": {"layout", "plot", "record"},
}


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{a.name}" if node.module == "mint_cli" else node.module for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_what_lies_below_it(path):
    own = part_of(path)
    used = {name.split(".")[1] for name in imports(path) if name.startswith("mint_cli.")}
    assert used <= ALLOWED[own] | ({"kernel"} if own == "kernel" else set())


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_command_line_imports_hydra(path):
    if path.name != "main.py":
        assert not {n.split(".")[0] for n in imports(path)} & {"hydra", "omegaconf"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_unpickles_tensors_and_nothing_seeds_globally(path):
    text = path.read_text()
    assert "np.random.seed" not in text and "random.seed(" not in text
    assert "torch.load(" not in text or "weights_only=True" in text
