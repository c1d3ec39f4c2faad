"""What the systems tell of themselves is so, and a recipe loads no system but its own."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from biomass_pl.cli import main
from biomass_pl.systems import Option, Sample, System, all_systems, class_name, resolved, system_of

CONFIGS = Path(__file__).parents[1] / "configs"
SYSTEMS = pytest.mark.parametrize("system", all_systems(), ids=lambda system: system.name)

HELP = """
import contextlib, importlib, io, json, sys

found = {}
for recipe in sys.argv[1:]:
    for name in [name for name in sys.modules if name.partition(".")[0] == "biomass_pl"]:
        del sys.modules[name]  # as in a new process, but for torch and the like
    with contextlib.redirect_stdout(io.StringIO()) as text:
        code = importlib.import_module("biomass_pl.cli").main(["fit", "--config", recipe, "--help"])
    loaded = [name for name in sys.modules if name.endswith((".pasture.data", ".lesion.data"))]
    found[recipe.rpartition("/")[2]] = {"code": code, "text": text.getvalue(), "loaded": loaded}
print(json.dumps(found))
"""


@SYSTEMS
def test_every_reference_leads_to_a_class_or_function_that_takes_what_is_told(system):
    for reference in (*system.data_modules, *system.tasks):
        found = resolved(reference)
        assert inspect.isclass(found) and found.__name__ == class_name(reference)
        assert found.__module__.startswith(f"biomass_pl.{system.name}.")
    parameters = inspect.signature(resolved(system.sample.render)).parameters
    assert {"out", "seed", *(option.name for option in system.sample.options)} <= parameters.keys()
    assert all(callable(resolved(step.apply)) for step in system.prediction_steps)


def test_a_class_belongs_to_one_system_by_its_short_or_its_full_name():
    names = [name for system in all_systems() for name in system.class_names()]
    assert len(names) == len(set(names))
    for system in all_systems():
        for reference in (*system.data_modules, *system.tasks):
            assert system_of(reference) is system and system_of(class_name(reference)) is system
    assert system_of("mine.MyData") is None and system_of("") is None


@SYSTEMS
def test_the_recipe_to_begin_with_is_there_and_is_of_the_system(system):
    recipe = yaml.safe_load((CONFIGS / f"{system.recipe}.yaml").read_text())
    assert system_of(recipe["data"]["class_path"]) is system_of(recipe["model"]["class_path"]) is system


@SYSTEMS
def test_a_sample_is_known_to_its_own_system_alone(system, rendered, lesions, leaves, slides, plots, tmp_path):
    samples = {"pasture": rendered, "lesion": lesions, "leaf": leaves, "slide": slides, "trait": plots}
    recognises = resolved(system.recognises)
    assert [name for name, root in samples.items() if recognises(root)] == [system.name]
    assert not recognises(tmp_path) and not recognises(tmp_path / "missing")


LONG = "sample_id,image_path,target_name,target\na__GDM_g,a.jpg,GDM_g,1\n"


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ({"train.csv": "nothing of this\n"}, ["pasture"]),
        ({"labels.csv": LONG}, ["pasture"]),
        ({"weights.csv": "photo;total\na.jpg;1\n", "test.csv": "photo\n"}, ["pasture"]),
        ({"weights.csv": b"photo,total\na\xe9.jpg,1\n"}, ["pasture"]),
        ({"weights.csv": "photo,total\na.jpg,1\n", "other.csv": "photo,total\na.jpg,1\n"}, []),
        ({"weights.csv": "photo,ears\na.jpg,1\n"}, []),
        ({"table.csv": "photo,ears\na.jpg,1\n"}, ["trait"]),
        ({"table.csv": "file,ears\na.jpg,1\n"}, []),
        ({"table.csv": "photo,total\na.jpg,1\n"}, ["pasture", "trait"]),
        ({"train-metadata.csv": "a\n"}, ["lesion"]),
        ({"rust/a.jpg": "", "sound/b.PNG": "", "notes.txt": ""}, ["leaf"]),
        ({"rust/a.jpg": "", "sound/b.txt": ""}, []),
        ({"rust/a.jpg": "", "sound/b.jpg": "", "names.csv": "a\n"}, []),
        ({"Original Dataset/rust/a.jpg": ""}, ["leaf"]),
        ({"features/data_0/feature_information.txt": ""}, ["slide"]),
        ({"specimens.hdf5": "no such file"}, []),
        ({".hidden/a.jpg": "", "rust/a.jpg": ""}, []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_a_folder_is_known_by_what_lies_in_it(files, names, tmp_path):
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert [system.name for system in all_systems() if resolved(system.recognises)(tmp_path)] == names


@SYSTEMS
def test_the_default_of_a_choice_is_one_of_its_words(system):
    for option in system.sample.options:
        assert isinstance(option.default, str) == bool(option.choices)
        assert not option.choices or option.default in option.choices


def render_stones(*, out: Path, seed: int, stones: int, shape: str) -> None:
    out.write_text(f"{stones} {shape} {seed}")


@pytest.fixture
def of_stones(monkeypatch) -> None:
    """There is only a system whose sample takes a number and a choice of words."""
    options = (
        Option(name="stones", default=3, help="grey stones"),
        Option(name="shape", default="round", help="how they look", choices=("round", "flat")),
    )
    sample = Sample(render=f"{__name__}.render_stones", about="stones", options=options)
    system = System(name="stone", about="stones", data_modules=(), tasks=(), recognises="", recipe="", sample=sample)
    monkeypatch.setattr("biomass_pl.systems.NAMES", ("stone",))
    monkeypatch.setitem(sys.modules, "biomass_pl.stone.system", SimpleNamespace(SYSTEM=system))


@pytest.mark.parametrize(
    ("arguments", "content", "told"),
    [
        ([], "3 round 0", "3 grey stones, shape round: new"),
        (["--stones", "5", "--shape", "flat", "--seed", "2"], "5 flat 2", "5 grey stones, shape flat: new"),
    ],
)
def test_a_sample_takes_numbers_and_choices_of_words(arguments, content, told, of_stones, workdir, capsys):
    assert main(["sample", "--out", "new", *arguments]) == 0
    assert Path("new").read_text() == content and capsys.readouterr().out.strip() == told


def test_a_choice_is_one_of_the_words_and_help_tells_them(of_stones, workdir, capsys):
    assert main(["sample", "--out", "new", "--shape", "square"]) == 2
    assert re.search("round.*flat", capsys.readouterr().err)
    assert not Path("new").exists()
    assert main(["sample", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "{round,flat} how they look (default: round of stone)" in text


@pytest.fixture(scope="module")
def helps() -> dict:
    """What the help on a recipe of each system says and loads."""
    recipes = [str(CONFIGS / f"{name}.yaml") for name in ("lesion_quick", "two_stage")]
    done = subprocess.run([sys.executable, "-c", HELP, *recipes], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("recipe", "loaded", "shown", "hidden"),
    [
        ("lesion_quick", "biomass_pl.lesion.data", "positive_ratio", "cv_strategy"),
        ("two_stage", "biomass_pl.pasture.data", "cv_strategy", "positive_ratio"),
    ],
)
def test_the_help_on_a_recipe_shows_its_settings_and_loads_its_own_system_only(recipe, loaded, shown, hidden, helps):
    found = helps[f"{recipe}.yaml"]
    assert found["code"] == 0 and found["loaded"] == [loaded]
    text = found["text"]
    assert f"--data.{shown}" in text and f"--data.{hidden}" not in text
    assert "--model.backbone" in text and "--model.pretrained" in text and "--model.tile_size" not in text
