"""`biomass predict --maps`: maps whose sums are the predictions, by the right models, and what has none."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biomass_pl.cli import main
from biomass_pl.runs import Run, find_run
from tests.conftest import done_in, in_workdir, made_once

pytestmark = pytest.mark.usefixtures("quick_pictures")

RECIPE = """\
trainer:
  max_epochs: 2
  accelerator: cpu
  callbacks:
    - class_path: BackboneFreeze
      init_args: {epochs: all}
model:
  class_path: PatchDensity
  init_args:
    backbone: test_resnet.r160_in1k
    pretrained: false
    optim: {head_lr_frozen: 1.0e-2}
data:
  class_path: PastureDataModule
  init_args: {root: ROOT, num_folds: 2, cv_strategy: random, tile_size: 64, num_workers: 2, bank_views: 1}
"""

PARTS = ["Dry_Green_g_pred", "Dry_Dead_g_pred", "Dry_Clover_g_pred"]


@pytest.fixture(scope="module")
def density_trained(rendered, tmp_path_factory) -> Path:
    """A working folder with a complete run of two folds. Not to be changed."""

    def make(folder: Path) -> None:
        (folder / "density.yaml").write_text(RECIPE.replace("ROOT", str(rendered)))
        done_in(folder, ["fit", "--config", "density.yaml"])

    return made_once(tmp_path_factory, "density_trained", make)


@pytest.fixture
def density_run(density_trained, workdir) -> Run:
    """The run, in a working folder of the test's own."""
    return in_workdir(find_run(density_trained / "lightning_logs"), workdir)


def grams_of(stem: Path) -> np.ndarray:
    """Grams of the whole quadrat from a map and what its JSON file says."""
    about, values = json.loads(stem.with_suffix(".json").read_text()), np.load(stem.with_suffix(".npy"))
    assert about["names"] == ["green", "dead", "clover"] and about["unit"] == "g/m2"
    assert values.dtype == np.float32 and values.shape == (3, 4, 8)  # 2 x 2 patches in each of 2 x 4 tiles
    assert about["mm_per_pixel"] == {"across": 700 / 8, "down": 300 / 4}
    square_metres = about["mm_per_pixel"]["across"] * about["mm_per_pixel"]["down"] / 1e6
    return values.sum(axis=(1, 2), dtype=np.float64) * square_metres


def test_maps_of_held_out_photos_are_those_of_their_own_folds_model(density_run):
    before = density_run.oof_predictions.read_bytes()
    assert main(["predict", "--maps", "maps"]) == 0
    assert density_run.oof_predictions.read_bytes() == before
    table = pd.read_csv(density_run.oof_predictions).set_index("image_id")
    assert len(list(Path("maps").iterdir())) == 3 * len(table)
    for image_id, row in table.iterrows():
        assert json.loads(Path(f"maps/{image_id}.json").read_text())["photo"] == image_id
        assert np.allclose(grams_of(Path(f"maps/{image_id}")), row[PARTS].astype(float), rtol=0, atol=1e-4)
    with np.load(density_run.path / "oof_embeddings.npz") as archive:
        assert set(archive.files) == {"image_id", "embedding"}


def test_maps_of_new_photos_are_the_mean_of_the_folds(density_run, rendered):
    photos = Path(shutil.copytree(rendered / "test", "field/north"))
    shutil.copytree(rendered / "test", "field/south")
    (photos / "broken.jpg").write_bytes(b"no picture")
    command = ["predict", "--images", "field", "--skip_broken"]
    assert main([*command, "--maps", "maps", "--out", "all.csv"]) == 0
    table = pd.read_csv("all.csv").dropna(subset=PARTS).set_index("image_id")
    stems = {json.loads(path.read_text())["photo"]: path.with_suffix("") for path in Path("maps").glob("*.json")}
    assert stems.keys() == set(table.index) and len(stems) == 8
    for name, row in table.iterrows():
        assert np.allclose(grams_of(stems[name]), row[PARTS].astype(float), rtol=0, atol=1e-4)
    parts = []
    for fold in ("0", "1"):
        assert main([*command, "--maps", fold, "--folds", fold, "--out", f"{fold}.csv"]) == 0
        parts.append([np.load(Path(fold, f"{stem.name}.npy")) for stem in stems.values()])
    assert not np.allclose(parts[0], parts[1])
    together = [np.load(stem.with_suffix(".npy")) for stem in stems.values()]
    assert np.allclose(together, np.mean(parts, axis=0), rtol=1e-5)


def test_maps_of_the_test_table(density_run, rendered):
    assert main(["predict", "--split", "test", "--maps", "maps"]) == 0
    table = pd.read_csv(density_run.test_predictions).set_index("image_id")
    assert len(table) == 4
    for image_id, row in table.iterrows():
        assert np.allclose(grams_of(Path(f"maps/{image_id}")), row[PARTS].astype(float), rtol=0, atol=1e-4)
    with np.load(density_run.path / "test_embeddings.npz") as archive:
        assert set(archive.files) == {"image_id", "embedding"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--maps", "maps", "--tta"], "--maps shows photos as they are, --tta averages their flips"),
        (["--maps", "file/maps"], "file/maps/map.json: Not a directory"),
    ],
)
def test_maps_that_cannot_be_made_are_refused_before_anything_is_predicted(arguments, message, density_run, capsys):
    Path("file").touch()
    density_run.oof_predictions.unlink()
    assert main(["predict", *arguments]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("biomass: error:")]
    assert message in line
    assert not density_run.oof_predictions.exists() and not Path("maps").exists()


def test_a_model_without_maps_is_named(trained, workdir, capsys):
    in_workdir(find_run(trained / "lightning_logs"), workdir)
    assert main(["predict", "--maps", "maps"]) == 2
    assert (
        "--maps: HierarchicalRatio predicts a photo as a whole and has no maps. Leave it out."
        in capsys.readouterr().err
    )
    assert not Path("maps").exists()
