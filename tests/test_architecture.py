"""Which room may import which, what a shared file may name and what a system must hold, read from the source."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from biomass_pl.systems import NAMES, all_systems

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "biomass_pl"
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = (
    {"__init__", "errors"},
    {"files", "terminal", "systems", "extras", "packaged_recipes"},
    {"runs"},
    {"new_runs"},
    {"data", "evaluation"},
    {"training"},
    set(NAMES),
    {"harness", "commands"},
    {"torch_commands"},
    {"cli"},
    {"__main__"},
)
"""Rooms from the ground up. Each may import itself and the floors below: nothing beside it, nothing above."""

WORDS = set(NAMES)
"""Systems that there are."""

PARTS = ("system.py", "README.md", "data.py", "task.py", "report.py", "sample")
"""What every system's folder holds."""

NETWORKS = {
    *("fusion.py", "heads.py", "auxiliary.py", "classifier.py", "backbone.py", "pooling.py"),
    *("density_head.py", "intervals.py", "patch_features.py"),
    *("poolers.py", "perceiver.py", "attention_tower.py", "text_tower.py", "decoder.py", "coca.py", "transformer.py"),
}
"""Files of networks, wherever a system has them."""

LIGHT = (
    *("biomass_pl.cli", "biomass_pl.commands", "biomass_pl.torch_commands", "biomass_pl.systems"),
    *("biomass_pl.runs", "biomass_pl.new_runs"),
    *(f"biomass_pl.{name}.system" for name in NAMES),
    *(f"biomass_pl.evaluation.{path.stem}" for path in sorted((PACKAGE / "evaluation").glob("[a-z]*.py"))),
    *(f"biomass_pl.{name}.report" for name in NAMES),
    "biomass_pl.lesion.features",
)
"""What answers at once, or works on tables alone."""

TESTED_BY = {
    "__main__.py": "harness/test_fit.py",  # as the program that is killed
    "commands.py": "data/test_bank.py",
    "errors.py": "data/test_photos.py",  # hardly anything but names; the messages are tested beside what raises them
    "torch_commands.py": "test_cli.py",
    "extras.py": "evaluation/test_boosters.py",
    "harness/parameter_types.py": "harness/test_stored_config.py",
    "data/rendering.py": "pasture/sample/test_render.py",
    "data/tiled_dataset.py": "pasture/test_data.py",
    "data/tiled_photos.py": "pasture/test_data.py",
    "evaluation/report.py": "lesion/test_report.py",
    "harness/export.py": "slide/test_image_export.py",
    "evaluation/learner_settings.py": "evaluation/test_stacking.py",
    "harness/blend.py": "harness/test_stack_files.py",
    "harness/embed_arguments.py": "harness/test_embed.py",
    "harness/before_training.py": "harness/test_check.py",
    "harness/fold.py": "harness/test_fit.py",
    "harness/help.py": "harness/test_another_system.py",
    "harness/interrupts.py": "harness/test_resume.py",
    "harness/out_of_fold.py": "harness/test_another_system.py",
    "harness/parser.py": "harness/test_fit.py",
    "harness/predictor.py": "harness/test_predict.py",
    "harness/quiet.py": "harness/test_averaged_weights.py",
    "harness/stack_arguments.py": "harness/test_stack_messages.py",
    "harness/stack_fit.py": "harness/test_stack_files.py",
    "leaf/sample/blade.py": "leaf/sample/test_render.py",
    "leaf/sample/damage.py": "leaf/sample/test_render.py",
    "leaf/sample/paint.py": "leaf/sample/test_render.py",
    "leaf/sample/scene.py": "leaf/sample/test_render.py",
    "leaf/system.py": "test_architecture.py",
    "lesion/sample/patients.py": "lesion/sample/test_render.py",
    "lesion/sample/record.py": "lesion/sample/test_render.py",
    "lesion/sample/scene.py": "lesion/sample/test_render.py",
    "lesion/system.py": "test_architecture.py",
    "pasture/dataset.py": "pasture/test_mixing.py",
    "pasture/long_layout.py": "pasture/test_tables.py",
    "pasture/metadata.py": "pasture/test_tables.py",
    "pasture/quadrat.py": "pasture/test_density_head.py",
    "pasture/sample/scene.py": "pasture/sample/test_render.py",
    "pasture/system.py": "test_architecture.py",
    "pasture/targets.py": "pasture/test_scores.py",
    "slide/biogpt_settings.py": "slide/test_biogpt.py",
    "slide/checkpoint_record.py": "slide/test_task.py",
    "slide/evaluation.py": "slide/test_task.py",
    "slide/evaluation_settings.py": "slide/test_task.py",
    "slide/locks.py": "slide/test_task.py",
    "slide/pairs.py": "slide/test_task.py",
    "slide/prediction_table.py": "slide/test_report.py",
    "slide/pretrained.py": "slide/test_task.py",
    "slide/sample/bags.py": "slide/sample/test_render.py",
    "slide/sample/findings.py": "slide/sample/test_render.py",
    "slide/sample/layouts.py": "slide/sample/test_render.py",
    "slide/sample/wording.py": "slide/sample/test_render.py",
    "slide/scores.py": "slide/test_report.py",
    "slide/stored_tokenizer.py": "slide/test_biogpt_tokenizer.py",
    "slide/system.py": "test_architecture.py",
    "trait/sample/scene.py": "trait/sample/test_render.py",
    "trait/system.py": "test_architecture.py",
    "training/callbacks/timer.py": "harness/test_bench.py",
    "training/weights_files.py": "training/test_backbone.py",
}
"""Modules without a test file of their own name, which others test as they use them."""


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def is_module(name: str) -> bool:
    path = PACKAGE.parent / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def imported(path: Path) -> set[str]:
    """Dotted names within the package that a module imports, or names in a text to import later."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports from '.'; absolute imports show where things come from"
            modules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {node.module, *(name for name in modules if is_module(name))}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value} if re.fullmatch(r"biomass_pl(\.\w+)+", node.value) else set()
    return {name.removeprefix("biomass_pl.") for name in found if name.startswith("biomass_pl.")}


def allowed_from(room: str) -> set[str]:
    floor = next(number for number, rooms in enumerate(FLOORS) if room in rooms)
    return {room}.union(*FLOORS[:floor])


def forbidden_imports(path: Path, room: str) -> set[str]:
    return {name for name in imported(path) if name.split(".")[0] not in allowed_from(room)}


def named_systems(source: str) -> list[str]:
    """Words in a source that name a system, but for the one tuple of all of them."""
    source = re.sub(r"^NAMES = \(.*\)$", "", source, flags=re.MULTILINE)
    return re.findall(rf"(?i)\b(?:{'|'.join(WORDS)})s?\b", source)


def needs_lightning(path: Path, seen: frozenset[Path] = frozenset()) -> bool:
    """Whether a module imports Lightning, itself or by what it imports of the package."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    inner = {PACKAGE / f"{name.replace('.', '/')}.py" for name in imported(path)} - seen
    return any(name.split(".")[0] in ("lightning", "pytorch_lightning") for name in names) or any(
        needs_lightning(module, seen | inner) for module in inner if module.is_file()
    )


def test_every_room_has_its_floor():
    rooms = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in MODULES}
    assert rooms == set().union(*FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_one_way(path):
    assert not forbidden_imports(path, path.relative_to(PACKAGE).with_suffix("").parts[0])


@pytest.mark.parametrize(
    ("room", "source", "found"),
    [
        ("training", "from biomass_pl.harness.fit import fit", {"harness.fit"}),
        ("training", "from biomass_pl import cli, errors", {"cli"}),
        ("training", "from biomass_pl import __version__", set()),
        ("training", "def late():\n    import biomass_pl.lesion.task", {"lesion.task"}),
        ("lesion", "from biomass_pl.pasture import targets", {"pasture", "pasture.targets"}),
        (
            "lesion",
            "RENDER = 'biomass_pl.pasture.sample.render.render_sample'",
            {"pasture.sample.render.render_sample"},
        ),
        ("data", "import biomass_pl.evaluation.report", {"evaluation.report"}),
        ("evaluation", "from biomass_pl.data.base import Source", {"data.base"}),
        ("harness", "from biomass_pl.pasture.data import PastureDataModule", set()),
        ("errors", "import numpy\nfrom pathlib import Path", set()),
    ],
)
def test_the_rule_sees_a_forbidden_import(room, source, found, tmp_path):
    module = tmp_path / "module.py"
    module.write_text(source)
    assert forbidden_imports(module, room) == found


def test_the_rule_refuses_relative_imports(tmp_path):
    module = tmp_path / "module.py"
    module.write_text("from ..lesion import task")
    with pytest.raises(AssertionError, match="absolute imports"):
        imported(module)


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.relative_to(PACKAGE).parts[0] not in NAMES], ids=name_of
)
def test_no_shared_file_names_a_system(path):
    assert named_systems(path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("# as of Lesions", ["Lesions"]),
        ('"""Grams of pasture."""', ["pasture"]),
        ("from biomass_pl.lesion.data import X", ["lesion"]),
        ('NAMES = ("pasture", "lesion")\nOTHERS = ("leaf", "slide")', ["leaf", "slide"]),
        ("lesion_id = PastureDataModule  # leaves", []),
    ],
)
def test_the_rule_sees_the_name_of_a_system(source, found):
    assert named_systems(source) == found


@pytest.mark.parametrize("path", [path for path in MODULES if path.name in NETWORKS], ids=name_of)
def test_networks_know_no_lightning(path):
    assert not needs_lightning(path)


def test_the_rule_sees_lightning_behind_an_import(tmp_path):
    module = tmp_path / "heads.py"
    for source, found in (
        ("from lightning.pytorch import Trainer", True),
        ("from biomass_pl.pasture import task", True),
        ("from torch import nn\nfrom biomass_pl.training.backbone import Backbone", False),
    ):
        module.write_text(source)
        assert needs_lightning(module) is found


IMPORTS = """
import importlib, json, sys

def own():
    return [name for name in sys.modules if name.partition(".")[0] == "biomass_pl"]

light, systems = json.loads(sys.argv[1])
found = {"torch": None}
for name in light:
    importlib.import_module(name)
    if "torch" in sys.modules:
        found["torch"] = name
        break
for system in systems:
    for name in own():  # as in a new process, but for torch and the like
        del sys.modules[name]
    for part in ("", ".system", ".task", ".data", ".report"):
        importlib.import_module(f"biomass_pl.{system}{part}")
    found[system] = [name for name in own() if name.split(".")[1:2] and name.split(".")[1] in set(systems) - {system}]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def loaded() -> dict:
    """The first light module that brings torch, and what each system loads of the others."""
    arguments = json.dumps([LIGHT, NAMES])
    done = subprocess.run([sys.executable, "-c", IMPORTS, arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_light_modules_pull_in_no_torch(loaded):
    assert loaded["torch"] is None


@pytest.mark.parametrize("system", NAMES)
def test_a_system_loads_nothing_of_another(system, loaded):
    assert loaded[system] == []


@pytest.mark.parametrize("system", NAMES)
def test_a_system_has_all_its_parts(system):
    folder = PACKAGE / system
    assert [part for part in PARTS if not (folder / part).exists()] == []
    assert list((TESTS / system).glob("test_*.py"))


def test_a_system_is_called_as_its_folder_and_its_references_lead_into_it():
    assert tuple(system.name for system in all_systems()) == NAMES
    for system in all_systems():
        steps = [step.apply for step in system.prediction_steps]
        for reference in (
            *system.data_modules,
            *system.tasks,
            system.recognises,
            system.sample.render,
            *steps,
        ):
            module, _, name = reference.rpartition(".")
            path = PACKAGE.parent / f"{module.replace('.', '/')}.py"
            assert path.is_relative_to(PACKAGE / system.name)
            assert re.search(rf"^(class|def) {name}\b", path.read_text(), flags=re.MULTILINE), reference


def test_every_module_has_a_test_of_its_name_or_another_that_is_listed():
    modules = {name_of(path) for path in MODULES if path.name != "__init__.py"}
    own = {name for name in modules if (TESTS / name).with_name(f"test_{Path(name).name}").is_file()}
    assert modules - own == set(TESTED_BY)
    assert [path for path in TESTED_BY.values() if not (TESTS / path).is_file()] == []
