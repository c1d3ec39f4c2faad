"""Features without training: which photos, layers, scales and poolings, what is written, and what heads learn from it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from biomass_pl.cli import main
from biomass_pl.data.feature_files import read_features
from biomass_pl.runs import find_run

BANK = Path("lightning_logs/feature_bank")
QUIET = ["--trainer.accelerator", "cpu", "--data.num_workers", "0"]


def recipe(model: str, data: str, **settings) -> dict:
    """A recipe of a tiny network that stays as it is, from random weights."""
    return {
        "seed_everything": 1,
        "trainer": {"max_epochs": 2, "callbacks": [{"class_path": "BackboneFreeze", "init_args": {"epochs": "all"}}]},
        "model": {"class_path": model, "init_args": {"backbone": "test_vit.r160_in1k", "pretrained": False}},
        "data": {"class_path": data, "init_args": {"root": "data", "num_folds": 3, "batch_size": 8} | settings},
    }


PASTURE = recipe(
    "HierarchicalRatio", "PastureDataModule", tile_size=32, bank_views=1, aug_prob=0.0, cv_strategy="random"
)
LESION = recipe("LesionClassifier", "LesionDataModule", image_size=32)
LEAF = recipe("LeafClassifier", "LeafDataModule", image_size=32)


def write(content: dict, name: str = "recipe.yaml") -> Path:
    path = Path(name)
    path.write_text(yaml.safe_dump(content))
    return path


def run(*arguments: object) -> int:
    return main([*map(str, arguments)])


@pytest.fixture
def pasture(workdir, rendered):
    """A working folder with rendered pasture and a recipe that keeps plain features."""
    Path("data").symlink_to(rendered)
    return write(PASTURE)


def embedded(*options: object, config: Path | str = "recipe.yaml", out: str = "features.npz"):
    assert run("embed", "--config", config, "--out", out, *QUIET, *options) == 0
    return read_features(Path(out))


def oof(*arguments: object) -> pd.DataFrame:
    assert run("fit", *QUIET, *arguments) == 0
    return pd.read_csv(find_run(Path("lightning_logs")).oof_predictions)


def test_heads_learn_from_the_features_of_the_bank_what_they_learn_from_the_bank(pasture, quick_pictures, capsys):
    """Also with workers, which have nothing to load, and where no photo is there."""
    features = embedded()
    assert features.values.shape[:3] == (24, 2, 4) and features.values.dtype == np.float32
    entries = len(list(BANK.rglob("*.features")))
    by_bank = oof("--config", pasture, "--folds", "0", "1")
    assert len(list(BANK.rglob("*.features"))) == entries == 24  # what was embedded is not computed again
    Path("tables").mkdir()
    shutil.copy("data/train.csv", "tables")
    given = ["--config", pasture, "--data.features", "features.npz", "--data.root", "tables"]
    capsys.readouterr()
    by_file = oof(*given, "--model.backbone", "no_such_network", "--data.num_workers", "2", "--folds", "0", "1")
    told = capsys.readouterr().err
    assert told.count("features.npz: 24 items, 2 x 4 vectors of") == 1 and told.count("act on nothing") == 1
    pd.testing.assert_frame_equal(by_file, by_bank, rtol=0, atol=1e-6)
    predictions = [column for column in by_file if column.endswith("_pred")]
    assert by_file[predictions].std().min() > 0.01
    before = Path(find_run(Path("lightning_logs")).oof_predictions).read_bytes()
    assert run("predict", *QUIET) == 0
    assert Path(find_run(Path("lightning_logs")).oof_predictions).read_bytes() == before


def test_the_test_table_is_predicted_where_the_file_names_its_photos(pasture, quick_pictures, capsys):
    labelled, test = embedded(), embedded("--split", "test", out="test.npz")
    assert len(test.names) == 4 and not set(test.names) & set(labelled.names)
    oof("--config", pasture, "--data.features", "features.npz", "--folds", "0")
    capsys.readouterr()
    assert run("predict", "--split", "test", *QUIET) == 2
    assert "features.npz lacks 4 of 4 items" in capsys.readouterr().err
    np.savez(
        "both.npz",
        image_id=np.array(labelled.names + test.names),
        features=np.concatenate([labelled.values, test.values]),
    )
    assert run("predict", "--split", "test", "--data.features", "both.npz", *QUIET) == 0
    (table,) = Path("lightning_logs").rglob("test_predictions*.csv")
    assert pd.read_csv(table)["image_id"].tolist() == test.names
    for refused in (["--images", "data/test"], ["--tta"]):
        capsys.readouterr()
        assert run("predict", *refused, *QUIET) == 2
        assert "has no network to look at photos with" in capsys.readouterr().err


@pytest.mark.parametrize(("axes", "shape"), [((1, 2), (1, 1)), ((1,), (1, 4))])
def test_features_without_views_or_tiles_are_learned_from(axes, shape, pasture, quick_pictures):
    features = embedded()
    np.savez("mean.npz", image_id=np.array(features.names), features=features.values.mean(axis=axes))
    table = oof("--config", pasture, "--data.features", "mean.npz", "--folds", "0")
    assert table.filter(like="_pred").to_numpy().min() >= 0 and len(table) == 8
    assert f"{shape[0]} x {shape[1]} vectors" in (find_run(Path("lightning_logs")).log).read_text()


def test_missing_photos_are_counted_and_named(pasture, capsys):
    features = embedded()
    np.savez("few.npz", image_id=np.array(features.names[5:]), features=features.values[5:])
    capsys.readouterr()
    assert run("fit", "--config", pasture, "--data.features", "few.npz", *QUIET) == 2
    first = ", ".join(sorted(features.names[:5])[:3])
    assert f"few.npz lacks 5 of 24 items: {first}, ..." in capsys.readouterr().err
    assert not list(Path("lightning_logs").glob("recipe/*"))


def test_a_backbone_that_is_to_learn_later_is_refused(pasture, capsys):
    embedded()
    two_stage = PASTURE | {
        "trainer": {"max_epochs": 3, "callbacks": [{"class_path": "BackboneFreeze", "init_args": {"epochs": 1}}]}
    }
    capsys.readouterr()
    assert run("fit", "--config", write(two_stage), "--data.features", "features.npz", *QUIET) == 2
    assert "BackboneFreeze.epochs 1 would have it learn later" in capsys.readouterr().err


def test_layers_poolings_and_scales_stand_side_by_side(pasture):
    plain = embedded()
    width = plain.values.shape[-1]
    chosen = embedded("--layers", "-1", "-2", "--pool", "class_token", "max", "--scales", "1", "0.5", out="all.npz")
    assert chosen.values.shape == (24, 2, 4, 2 * 2 * 2 * width)
    half = embedded("--layers", "-1", "-2", "--pool", "class_token", "max", "--scales", "0.5", out="half.npz")
    assert half.values.shape == (24, 2, 1, 4 * width)
    assert np.array_equal(chosen.values[..., 4 * width :], half.values.repeat(4, axis=2))
    with np.load("all.npz") as archive:
        made_by = json.loads(str(archive["made_by"]))
    assert made_by["layers"] == [-1, -2] and made_by["poolings"] == ["class_token", "max"]
    assert made_by["scales"] == [1.0, 0.5] and [photos["grid"] for photos in made_by["photos"]] == [[2, 2], [1, 1]]
    assert made_by["backbone"] == "test_vit.r160_in1k" and len(made_by["weights"]) == 64


def test_photos_of_ones_own_are_named_by_their_paths(pasture, capsys):
    features = embedded("--images", "data/test")
    assert features.names == sorted(map(str, Path("data/test").glob("*.jpg")))
    Path("broken.jpg").write_bytes(b"")
    capsys.readouterr()
    assert run("embed", "--config", pasture, "--out", "other.npz", "--images", "broken.jpg", *QUIET) == 2
    assert "broken.jpg: the file is empty" in capsys.readouterr().err and not Path("other.npz").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "features.csv"], "Give a name that ends in .npz"),
        (["--out", "recipe.yaml.npz"], "is there already"),
        ([], "Give --out FILE"),
        (["--out", "x.npz", "--images", "data", "--split", "test"], "name different photos"),
        (["--out", "x.npz", "--layers", "9999"], "has no such --layers"),
        (["--out", "x.npz", "--scales", "0.3"], "gives no whole tiles"),
        (["--out", "x.npz", "--scales", "1", "1"], "names one twice"),
        (["--out", "x.npz", "--model.init_from", "lightning_logs/x"], "gives every fold a backbone of its own"),
        (["--out", "x.npz", "--pool", "class_token", "--model.backbone", "test_efficientnet.r160_in1k"], "no class token"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_before_anything_is_written(options, message, pasture, capsys):
    Path("recipe.yaml.npz").touch()
    assert run("embed", "--config", pasture, *QUIET, *options) == 2
    assert message in capsys.readouterr().err
    assert not Path("x.npz").exists()


@pytest.mark.parametrize(("system", "content"), [("lesions", LESION), ("leaves", LEAF)])
def test_photos_that_are_no_tiles_are_embedded_and_learned_from(system, content, workdir, request, quick_pictures):
    """Without a bank; then only the tables are there."""
    folder = request.getfixturevalue(system)
    Path("data").symlink_to(folder)
    config = write(content)
    features = embedded()
    assert features.values.shape[1:3] == (1, 1) and np.ptp(features.values, axis=0).max() > 0
    Path("tables").mkdir()
    settings = ["--data.root", "tables", "--data.features", "features.npz"]
    if system == "lesions":
        shutil.copy("data/train-metadata.csv", "tables")
    else:
        labels = pd.DataFrame({"path": features.names, "label": [Path(name).parent.name for name in features.names]})
        labels.to_csv("labels.csv", index=False)
        settings += ["--data.labels", "labels.csv"]
    table = oof("--config", config, *settings, "--folds", "0", "1")
    assert set(table.iloc[:, 0]) < set(features.names)


def test_any_numbers_are_learned_from_features(pasture, quick_pictures):
    features = embedded()
    wide = pd.read_csv("data/train.csv").pivot(index="image_path", columns="target_name", values="target")
    Path("tables").mkdir()
    wide.reset_index().to_csv("tables/table.csv", index=False)
    names = [f"train/{name}.jpg" for name in features.names]
    np.savez("named.npz", image_id=np.array(names), features=features.values)
    own = recipe("Regression", "RegressionDataModule", targets=["Dry_Green_g", "Dry_Total_g"], tile_size=32)
    own["data"]["init_args"] |= {"root": "tables", "image_column": "image_path", "features": "named.npz"}
    table = oof("--config", write(own, "own.yaml"), "--folds", "0")
    assert set(table["image_id"]) < set(names) and table["Dry_Total_g_pred"].notna().all()


def test_scales_are_refused_where_photos_are_not_cut(workdir, lesions, capsys):
    Path("data").symlink_to(lesions)
    assert run("embed", "--config", write(LESION), "--out", "x.npz", "--scales", "0.5", *QUIET) == 2
    assert "Leave it out" in capsys.readouterr().err


def test_pairs_of_views_cannot_be_made_of_features(pasture, capsys):
    embedded()
    pairs = PASTURE | {
        "model": {"class_path": "SimCLR", "init_args": PASTURE["model"]["init_args"]},
        "trainer": {"max_epochs": 1},
    }
    capsys.readouterr()
    assert run("fit", "--config", write(pairs), "--data.features", "features.npz", *QUIET) == 2
    assert "SimCLR learns from pixels" in capsys.readouterr().err
