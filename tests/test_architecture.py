"""Which room may import which, read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "biomass_pl"

ALLOWED = {
    "__init__": set(),
    "__main__": {"cli"},
    "errors": set(),
    "files": set(),
    "runs": set(),
    "cli": {"commands", "harness"},
    "commands": {"data", "pasture", "lesion"},
    "data": set(),
    "training": {"data", "evaluation", "runs"},
    "evaluation": {"runs"},
    "pasture": {"training", "evaluation", "data"},
    "lesion": {"training", "evaluation", "data"},
    "harness": {"pasture", "lesion", "training", "data", "evaluation", "runs"},
}
"""Beside itself, a room imports these; everything may use errors and files."""

LIGHT = ("biomass_pl.evaluation.stacking", "biomass_pl.lesion.report", "biomass_pl.lesion.features")
"""What works on tables alone."""

EVERYWHERE = {"errors", "files", ""}
NETWORKS = (
    "training/backbone.py",
    "pasture/fusion.py",
    "pasture/heads.py",
    "pasture/auxiliary.py",
    "lesion/classifier.py",
)
SYSTEMS = ("pasture", "lesion", "leaf", "slide")


def imports(path: Path) -> set[str]:
    """Dotted names within the package that a module imports, without the package's own name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "biomass_pl":
                names = [f"biomass_pl.{alias.name}" for alias in node.names if alias.name != "__version__"]
        found |= {name.removeprefix("biomass_pl").lstrip(".") for name in names if name.split(".")[0] == "biomass_pl"}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    room = path.relative_to(PACKAGE).with_suffix("").parts[0]
    allowed = ALLOWED[room] | EVERYWHERE | {room}
    for name in imports(path):
        assert any(name == room_name or name.startswith(f"{room_name}.") for room_name in allowed), name


def test_the_rule_sees_a_forbidden_import(tmp_path):
    module = tmp_path / "module.py"
    module.write_text("from biomass_pl.harness.fit import fit\nimport biomass_pl.cli\nfrom biomass_pl import runs\n")
    assert imports(module) == {"harness.fit", "cli", "runs"}


@pytest.mark.parametrize("name", ["biomass_pl", "biomass_pl.runs", "biomass_pl.cli", *LIGHT])
def test_light_modules_pull_in_no_torch(name):
    check = f"import sys, {name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


@pytest.mark.parametrize("name", ["training/task.py", "data/base.py"])
def test_base_classes_name_no_system(name):
    source = (PACKAGE / name).read_text().lower()
    assert not [system for system in SYSTEMS if system in source]


@pytest.mark.parametrize("path", [PACKAGE / name for name in NETWORKS], ids=lambda path: path.name)
def test_networks_know_no_lightning(path):
    assert "lightning" not in {name.split(".")[0] for name in _all_imports(path)}


def _all_imports(path: Path) -> list[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return plain + [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
