"""Rendered pastures, skin lesions, leaves, slides and plots of wheat, small runs made once, and what most tests need around them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from matplotlib.figure import Figure
from PIL import Image

# Also for the processes that tests start: sums over other numbers of threads differ in their last digits, and tests
# run side by side, where threads of one would only slow the others down.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"  # a test that asks for weights fails at once instead of retrying

from biomass_pl.cli import main
from biomass_pl.leaf.sample.render import render_leaves
from biomass_pl.lesion.sample.render import render_lesions
from biomass_pl.new_runs import RunStart, create_run
from biomass_pl.pasture.sample.render import render_sample
from biomass_pl.runs import Run, find_run
from biomass_pl.slide.sample.render import render_specimens
from biomass_pl.trait.sample.render import render_plots

PHOTOS = 24
LESIONS = 120

SLOWEST = ("test_the_commands_run_one_after_another", "test_two_processes_train_what_one_trains")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs the slowest tests first: at the end, one process would only wait for the other."""
    items.sort(key=lambda item: not item.name.startswith(SLOWEST))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder for several tests, made by one of the processes that run them side by side.

    Args:
        factory: Knows where the folders of tests are.
        name: Name of the folder.
        make: Fills it.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # in which every process has a folder of its own
    folder, complete = base / name, base / f"{name}.complete"
    with FileLock(base / f"{name}.lock"):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            complete.touch()
    return folder


@pytest.fixture(scope="session")
def rendered(tmp_path_factory) -> Path:
    """A data folder with 24 labelled and 4 test photos of 128 x 64 pixels. Not to be changed."""

    def make(folder: Path) -> None:
        render_sample(out=folder / "data", photos=PHOTOS, test_photos=4, width=128, seed=3)

    return made_once(tmp_path_factory, "rendered", make) / "data"


@pytest.fixture(scope="session")
def lesions(tmp_path_factory) -> Path:
    """A data folder with 120 labelled skin lesions, 12 of them malignant, and 4 test photos. Not to be changed."""

    def make(folder: Path) -> None:
        render_lesions(out=folder / "data", photos=LESIONS, test_photos=4, seed=3)

    return made_once(tmp_path_factory, "lesions", make) / "data"


@pytest.fixture(scope="session")
def leaves(tmp_path_factory) -> Path:
    """A data folder with 70 rendered leaves of seven classes, and a changed copy of each. Not to be changed."""

    def make(folder: Path) -> None:
        render_leaves(out=folder / "data", photos=70, augmented=1, seed=3)

    return made_once(tmp_path_factory, "leaves", make) / "data"


@pytest.fixture(scope="session")
def slides(tmp_path_factory) -> Path:
    """A data folder with 60 pathology specimens of 20 to 40 vectors, their reports and questions. Not to be changed."""

    def make(folder: Path) -> None:
        render_specimens(out=folder / "data", specimens=60, most_vectors=40, seed=3)

    return made_once(tmp_path_factory, "slides", make) / "data"


@pytest.fixture(scope="session")
def plots(tmp_path_factory) -> Path:
    """A data folder with 40 measured plots of wheat and 3 others, photos of 80 x 60 pixels. Not to be changed."""

    def make(folder: Path) -> None:
        render_plots(out=folder / "data", photos=40, test_photos=3, width=80, seed=3)

    return made_once(tmp_path_factory, "plots", make) / "data"


@pytest.fixture
def data(rendered, tmp_path) -> Path:
    """A copy of the rendered data folder that a test may spoil."""
    return Path(shutil.copytree(rendered, tmp_path / "data"))


@pytest.fixture
def workdir(tmp_path, monkeypatch) -> Path:
    """An empty working folder, in which runs go to lightning_logs."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def quick_pictures(monkeypatch) -> None:
    """Empty pictures: drawing them takes a third of a small training. What session fixtures draw is real."""

    def save(figure: Figure, path: Path, **settings) -> None:
        Image.new("RGB", (1, 1)).save(path, "PNG")

    monkeypatch.setattr(Figure, "savefig", save)


RECIPE = """\
trainer:
  max_epochs: 4
  callbacks:
    - class_path: BackboneFreeze
      init_args: {epochs: 2}
    - class_path: EarlyStopping
      init_args: {monitor: val/weighted_r2, mode: max, patience: 10}
model:
  class_path: HierarchicalRatio
  init_args:
    backbone: test_vit.r160_in1k
    pretrained: false
    optim: {head_lr: 1.0e-3, backbone_lr: 1.0e-4, warmup_epochs: 1}
data:
  class_path: PastureDataModule
  init_args:
    root: ROOT
    num_folds: 3
    tile_size: 32
    num_workers: 0
    stereo_correct_aug: true
    stereo_swap_prob: 0.5
"""


def done_in(folder: Path, *commands: list[str]) -> Path:
    """Runs commands in a working folder and returns it."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        for command in commands:
            assert main(command) == 0
    finally:
        os.chdir(before)
    return folder


def in_workdir(run: Run, workdir: Path) -> Run:
    """A copy of a run in a working folder of the test's own."""
    shutil.copytree(run.path.parents[1], workdir / "lightning_logs")
    return find_run(Path("lightning_logs"))


def without_test_photos(lesions: Path, root: Path) -> Path:
    """A copy of a data folder of lesions whose test table has no rows."""
    shutil.copytree(lesions, root)
    for name in ("test-metadata.csv", "sample_submission.csv"):
        (root / name).write_text((root / name).read_text().splitlines()[0] + "\n")
    return root


@pytest.fixture(scope="session")
def recipe(rendered, tmp_path_factory) -> Path:
    """A two-stage recipe on the rendered photos."""

    def make(folder: Path) -> None:
        (folder / "small.yaml").write_text(RECIPE.replace("ROOT", str(rendered)))

    return made_once(tmp_path_factory, "recipe", make) / "small.yaml"


@pytest.fixture(scope="session")
def trained(recipe, tmp_path_factory) -> Path:
    """A working folder with one complete run of the recipe. Not to be changed."""
    return made_once(tmp_path_factory, "trained", lambda folder: done_in(folder, ["fit", "--config", str(recipe)]))


@pytest.fixture
def run(trained) -> Run:
    """The complete run."""
    return find_run(trained / "lightning_logs")


LESION_RECIPE = """\
trainer: {max_epochs: 2}
model:
  class_path: LesionClassifier
  init_args:
    backbone: test_vit.r160_in1k
    pretrained: false
    optim: {head_lr: 1.0e-2, backbone_lr: 1.0e-3, warmup_epochs: 0}
data:
  class_path: LesionDataModule
  init_args:
    root: ROOT
    num_folds: 3
    image_size: 32
    batch_size: 8
    positive_ratio: 0.5
    num_workers: 0
"""


@pytest.fixture(scope="session")
def lesion_data(lesions, tmp_path_factory) -> Path:
    """The rendered lesions, whose submission has another order than the test table. Not to be changed."""

    def make(folder: Path) -> None:
        path = Path(shutil.copytree(lesions, folder / "data")) / "sample_submission.csv"
        header, *rows = path.read_text().splitlines()
        path.write_text("\n".join([header, *reversed(rows)]) + "\n")

    return made_once(tmp_path_factory, "lesion_data", make) / "data"


@pytest.fixture(scope="session")
def lesion_recipe(lesion_data, tmp_path_factory) -> Path:
    """A recipe of two epochs on the rendered lesions."""

    def make(folder: Path) -> None:
        (folder / "moles.yaml").write_text(LESION_RECIPE.replace("ROOT", str(lesion_data)))

    return made_once(tmp_path_factory, "lesion_recipe", make) / "moles.yaml"


@pytest.fixture(scope="session")
def lesion_trained(lesion_recipe, tmp_path_factory) -> Path:
    """A working folder with one complete run on lesions, as `biomass fit` leaves it. Not to be changed."""
    command = ["fit", "--config", str(lesion_recipe)]
    return made_once(tmp_path_factory, "lesion_trained", lambda folder: done_in(folder, command))


@pytest.fixture(scope="session")
def lesion_predicted(lesion_trained, tmp_path_factory) -> Path:
    """The same, with what `biomass predict` makes of held-out and test photos. Not to be changed."""

    def make(folder: Path) -> None:
        shutil.copytree(lesion_trained, folder, dirs_exist_ok=True)
        done_in(folder, ["predict"], ["predict", "--split", "test"])

    return made_once(tmp_path_factory, "lesion_predicted", make)


@pytest.fixture
def lesion_run(lesion_trained) -> Run:
    """The complete run on lesions."""
    return find_run(lesion_trained / "lightning_logs")


@pytest.fixture
def lesion_copy(lesion_predicted, workdir) -> Run:
    """The predicted run on lesions, in a working folder of the test's own."""
    shutil.copytree(lesion_predicted, workdir, dirs_exist_ok=True)
    return find_run(Path("lightning_logs"))


def make_start(name: str = "two_stage", *, folds: tuple[int, ...] = (0, 1), **changes) -> RunStart:
    """What a made-up run begins with."""
    return RunStart(
        name=name,
        folds=list(folds),
        command=["biomass", "fit"],
        fingerprint={"table": "abc"},
        settings="0123",
        oof=True,
        **changes,
    )


def make_run(
    logs: Path, name: str = "two_stage", *, folds: tuple[int, ...] = (0, 1), created: str | None = None
) -> Run:
    """A run of which nothing is trained, made just now or at another time."""
    run = create_run(logs, make_start(name, folds=folds))
    if created is not None:
        run.update_record(created=created)
    return run
