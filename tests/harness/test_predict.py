"""`biomass predict` on a finished run."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lightning.pytorch.loops.prediction_loop import _PredictionLoop
from PIL import Image

from biomass_pl.cli import main
from biomass_pl.pasture.tables import read_labels
from biomass_pl.pasture.targets import TARGETS
from biomass_pl.runs import find_run

pytestmark = pytest.mark.usefixtures("quick_pictures")

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


@pytest.fixture
def field(rendered, workdir) -> list[str]:
    """A folder with a good photo, folders in it with a file that is no picture and an empty one, and hidden ones."""
    good, bad, empty, hidden = (
        Path("field", name) for name in ("good.jpg", "north/bad.jpg", "north/deep/empty.PNG", ".trash/old.jpg")
    )
    for path, content in ((bad, b"no picture"), (empty, b""), (hidden, b"no picture either")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    shutil.copy(next((rendered / "test").iterdir()), good)
    return list(map(str, (good, bad, empty)))


def test_unreadable_images_are_all_named_and_nothing_is_written(copied, field, capsys):
    assert main(["predict", "--images", "field", "--out", "out.csv"]) == 2
    error = capsys.readouterr().err
    assert "2 photo(s) cannot be used; replace them, or leave them out with --skip_broken:" in error
    assert error.splitlines()[-2:] == [f"  {field[1]}: it is not a picture", f"  {field[2]}: the file is empty"]
    assert not Path("out.csv").exists()


def test_unreadable_images_are_left_out_with_the_reason_if_asked_for(copied, field, capsys):
    assert main(["predict", "--images", "field", field[0], "--skip_broken", "--out", "out.csv"]) == 0
    told = capsys.readouterr()
    assert "warning: 2 of 3 photo(s) cannot be used and are left out:" in told.err and field[1] in told.err
    assert told.out.splitlines()[-1] == "1 photo(s), mean of 3 fold(s): out.csv"
    table = pd.read_csv("out.csv", keep_default_na=False)
    assert table["image_id"].tolist() == field
    assert table["error"].tolist() == ["", "it is not a picture", "the file is empty"]
    assert (table[PREDICTED] == "").all(axis=1).tolist() == [False, True, True]
    assert (table.loc[0, PREDICTED].astype(float) >= 0).all()
    assert main(["predict", "--images", "field/north", "--skip_broken", "--out", "none.csv"]) == 2
    assert "None of the 2 photo(s) can be used" in capsys.readouterr().err
    assert not Path("none.csv").exists()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("/proc/out.csv", "/proc/out.csv: "),
        ("file/out.csv", "file/out.csv: Not a directory. A part of the path is a file. Choose another place."),
        ("folder.csv", "folder.csv: Is a directory."),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_anything_is_read_or_predicted(
    out, message, copied, field, capsys
):
    Path("file").touch()
    Path("folder.csv").mkdir()
    assert main(["predict", "--images", "field", "--out", out]) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith(f"biomass: error: {message}") and field[1] not in error
    assert "tmp" not in error.splitlines()[-1].removeprefix("biomass: error: ") and "Traceback" not in error


def test_other_settings_or_data_leave_the_tables_of_the_run_alone(copied, rendered, data, workdir):
    own = [copied.path / name for name in ("oof_predictions.csv", "oof_metrics.json", "oof_predictions.png")]
    before = [path.read_bytes() for path in own]
    config = copied.config(1).read_bytes()
    changed = copied.path / "oof_predictions_changed.csv"
    assert main(["predict", "--model.film", "true"]) == 0
    assert pd.read_csv(changed)["image_id"].tolist() == pd.read_csv(own[0])["image_id"].tolist()
    changed.unlink()
    photo = data / read_labels(data)["image_path"].iloc[0]
    Image.open(photo).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photo)
    assert main(["predict", "--data.root", str(data)]) == 0
    assert changed.is_file() and (copied.path / "oof_embeddings_changed.npz").is_file()
    assert [path.read_bytes() for path in own] == before and copied.config(1).read_bytes() == config
    assert not (copied.path / "oof_embeddings.npz").exists()


def test_the_same_data_elsewhere_and_other_batches_give_the_tables_of_the_run(copied, data):
    before = copied.oof_predictions.read_bytes()
    copied.oof_predictions.unlink()
    assert main(["predict", f"--data.root={data}", "--data.batch_size", "8", "--trainer.accelerator", "cpu"]) == 0
    assert copied.oof_predictions.read_bytes() == before
    assert not (copied.path / "oof_predictions_changed.csv").exists()


def test_ctrl_c_ends_a_prediction_and_nothing_is_said_of_a_training(copied, monkeypatch, capsys):
    handler = signal.getsignal(signal.SIGINT)

    def interrupted(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(_PredictionLoop, "run", interrupted)
    assert main(["predict"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "biomass: stopped."
    assert signal.getsignal(signal.SIGINT) == handler


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "a.jpg", "--split", "test"], "Give one of them"),
        (["--images", "missing.jpg"], "missing.jpg does not exist"),
        (["--config", "x.yaml"], "Leave --config out"),
        (["--config=x.yaml"], "Leave --config out"),
        (["--out", "x.png"], "--out x.png is to be a table"),
        (["--skip_broken"], "Leave it out, or give --images"),
        (["--model.nothing", "1"], "there is no setting 'nothing'"),
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
