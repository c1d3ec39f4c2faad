"""`biomass predict` on a finished run."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from biomass_pl.cli import main
from biomass_pl.pasture.targets import TARGETS
from biomass_pl.runs import find_run

PREDICTED = [f"{target}_pred" for target in TARGETS]


@pytest.fixture
def copied(trained, workdir):
    """The complete run in a working folder of the test's own."""
    shutil.copytree(trained / "lightning_logs", workdir / "lightning_logs")
    return find_run(workdir / "lightning_logs")


def test_bare_predict_reproduces_the_table_of_the_training(copied):
    tables = [copied.oof_predictions, copied.path / "oof_metrics.json"]
    before = [path.read_bytes() for path in tables]
    for path in tables:
        path.unlink()
    settings = [copied.config(fold).read_bytes() for fold in range(3)]
    assert main(["predict"]) == 0
    assert [path.read_bytes() for path in tables] == before
    assert [copied.config(fold).read_bytes() for fold in range(3)] == settings


def test_tta_averages_the_flips_and_leaves_the_plain_table(copied):
    plain = copied.oof_predictions.read_bytes()
    assert main(["predict", "--tta"]) == 0
    assert copied.oof_predictions.read_bytes() == plain
    flipped = pd.read_csv(copied.path / "oof_predictions_tta.csv")
    table = pd.read_csv(copied.oof_predictions)
    assert flipped["image_id"].tolist() == table["image_id"].tolist()
    assert not np.allclose(flipped[PREDICTED], table[PREDICTED])
    assert (copied.path / "oof_metrics_tta.json").is_file()


def test_derive_dead_is_total_minus_gdm(copied):
    assert main(["predict", "--derive_dead", "--out", "derived.csv"]) == 0
    table = pd.read_csv("derived.csv")
    expected = (table["Dry_Total_g_pred"] - table["GDM_g_pred"]).clip(lower=0)
    assert np.allclose(table["Dry_Dead_g_pred"], expected, atol=1e-6)
    assert json.loads((copied.path.parents[2] / "derived_metrics.json").read_text())["pooled"]["photos"] == 24


def test_some_folds_predict_only_their_photos(copied):
    assert main(["predict", "--folds", "1"]) == 0
    table = pd.read_csv(copied.path / "oof_predictions_folds_1.csv")
    assert set(table["fold"]) == {1}


def test_the_test_split_becomes_a_submission(copied, rendered):
    assert main(["predict", "--split", "test"]) == 0
    submission = pd.read_csv(copied.path / "submission.csv")
    expected = pd.read_csv(rendered / "sample_submission.csv")
    assert list(submission) == ["sample_id", "target"]
    assert submission["sample_id"].tolist() == expected["sample_id"].tolist()
    assert (submission["target"] >= 0).all()


def test_images_get_the_mean_of_the_folds(copied, rendered, workdir):
    photos = sorted((rendered / "test").iterdir())
    assert main(["predict", "--images", str(rendered / "test"), str(photos[0]), "--out", "all.csv"]) == 0
    together = pd.read_csv("all.csv")
    assert together["image_id"].tolist() == [str(photo) for photo in photos]
    singles = []
    for fold in range(3):
        out = f"fold_{fold}.csv"
        assert main(["predict", "--images", str(rendered / "test"), "--folds", str(fold), "--out", out]) == 0
        singles.append(pd.read_csv(out)[PREDICTED].to_numpy())
    assert np.allclose(together[PREDICTED], np.mean(singles, axis=0), atol=2e-6)


def test_images_of_other_sizes_and_kinds_are_predicted(copied, workdir):
    Image.new("L", (301, 99), 120).save("grey.png")
    Image.new("CMYK", (64, 64)).save("print.jpg")
    assert main(["predict", "--images", "grey.png", "print.jpg", "--out", "odd.csv"]) == 0
    assert np.isfinite(pd.read_csv("odd.csv")[PREDICTED]).all(axis=None)


def test_unreadable_images_are_all_named_and_nothing_is_written(copied, workdir, capsys):
    for name in ("a.jpg", "b.jpg"):
        (workdir / name).write_bytes(b"no picture")
    assert main(["predict", "--images", "a.jpg", "b.jpg", "--out", "bad.csv"]) == 2
    message = capsys.readouterr().err
    assert "a.jpg" in message and "b.jpg" in message and "not a picture" in message
    assert not (workdir / "bad.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "a.jpg", "--split", "test"], "Give one of them"),
        (["--images", "missing.jpg"], "missing.jpg does not exist"),
        (["--config", "x.yaml"], "Leave --config out"),
        (["--folds", "7"], "no finished fold 7"),
        (["--run", "nowhere"], "nowhere does not exist"),
        (["--data.root", "nowhere"], "are not in 'nowhere' as seen from"),
        (["--split", "train"], "invalid choice"),
        (["--data.nothing", "1"], "there is no setting 'nothing'"),
    ],
)
def test_wrong_requests_get_one_message(arguments, message, copied, capsys):
    assert main(["predict", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_run_without_finished_folds_says_how_to_finish_it(copied, capsys):
    for fold in range(3):
        (copied.fold_dir(fold) / "fold.json").unlink()
    assert main(["predict"]) == 2
    assert "biomass fit --resume" in capsys.readouterr().err


def test_no_run_at_all_says_how_to_train_one(workdir, capsys):
    assert main(["predict"]) == 2
    assert "biomass fit --config" in capsys.readouterr().err
