"""`biomass fit` and `biomass predict` on skin lesions, end to end."""

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from biomass_pl.cli import main
from biomass_pl.data.splits import Split
from biomass_pl.evaluation.embeddings import Embeddings
from biomass_pl.harness.parser import RunCLI
from biomass_pl.lesion.data import LesionDataModule
from biomass_pl.lesion.losses import CrossEntropyLoss
from biomass_pl.lesion.partial_auc import area_under_roc, partial_auc
from biomass_pl.lesion.tables import read_lesions
from biomass_pl.lesion.task import LesionClassifier
from biomass_pl.runs import Run, find_run
from tests.conftest import without_test_photos

LOGS = Path("lightning_logs")
COLUMNS = ["isic_id", "patient_id", "fold", "target", "target_pred"]
FEATURES = 64


def fold_model(run: Run, fold: int) -> LesionClassifier:
    """The network of a fold's best checkpoint."""
    task = LesionClassifier(backbone="test_vit.r160_in1k", pretrained=False, tile_size=32)
    task.configure_model()
    task.load_state_dict(torch.load(run.best_checkpoint(fold), weights_only=True)["state_dict"])
    return task.eval()


def held_out_batches(run: Run, root: Path, fold: int) -> list[dict]:
    data = LesionDataModule(root=root, image_size=32, batch_size=8, num_workers=0)
    folds = pd.read_csv(run.folds_csv).set_index("isic_id")["fold"]
    data.use(Split(fold=fold, folds=folds))
    data.select("held_out")
    return list(data.predict_dataloader())


# Training


def test_every_lesion_is_predicted_once_by_the_fold_that_held_it_out(lesion_run, lesion_data):
    table = pd.read_csv(lesion_run.oof_predictions)
    assert list(table) == COLUMNS
    lesions = read_lesions(lesion_data, "train").set_index("isic_id")
    assert sorted(table["isic_id"]) == sorted(lesions.index)
    assert (table.set_index("isic_id")[list(lesions)] == lesions.loc[table["isic_id"]]).all(axis=None)
    folds = pd.read_csv(lesion_run.folds_csv).set_index("isic_id")["fold"]
    assert set(folds) == {0, 1, 2}
    assert (table["fold"].to_numpy() == folds.loc[table["isic_id"]].to_numpy()).all()
    assert table["target_pred"].between(0, 1).all() and table["target_pred"].nunique() > len(table) / 2


def test_no_patient_is_in_two_folds_and_every_fold_holds_malignant_lesions(lesion_run):
    table = pd.read_csv(lesion_run.oof_predictions)
    assert (table.groupby("patient_id")["fold"].nunique() == 1).all()
    assert (table.groupby("fold")["target"].sum() > 0).all()


def test_the_reported_scores_are_those_of_the_written_table(lesion_run):
    table = pd.read_csv(lesion_run.oof_predictions)
    scores = json.loads((lesion_run.path / "oof_metrics.json").read_text())
    truth, score = table["target"].to_numpy(), table["target_pred"].to_numpy()
    assert scores["pooled"]["pauc"] == pytest.approx(partial_auc(truth, score), abs=1e-12)
    assert scores["pooled"]["auc"] == pytest.approx(area_under_roc(truth, score), abs=1e-12)
    assert scores["pooled"]["photos"] == 120 and scores["pooled"]["positives"] == 12
    for fold, rows in table.groupby("fold"):
        own = partial_auc(rows["target"].to_numpy(), rows["target_pred"].to_numpy())
        assert scores["folds"][str(fold)]["pauc"] == pytest.approx(own, abs=1e-12)


def test_the_best_epoch_is_the_one_that_predicts(lesion_run):
    table = pd.read_csv(lesion_run.oof_predictions)
    for fold in range(3):
        rows = table[table["fold"] == fold]
        record = json.loads((lesion_run.fold_dir(fold) / "fold.json").read_text())
        logged = pd.read_csv(lesion_run.metrics_csv(fold))
        assert logged["epoch"].tolist() == [0, 1]
        assert record["val/pauc"] == logged["val/pauc"].max() == logged["val/pauc"][record["best_epoch"]]
        # Logged in float32.
        predicted = partial_auc(rows["target"].to_numpy(), rows["target_pred"].to_numpy())
        assert record["val/pauc"] == pytest.approx(predicted, abs=1e-6)


def test_the_run_folder_has_curves_pictures_and_settings(lesion_run):
    for name in ("learning_curves.png", "oof_predictions.png"):
        assert (lesion_run.path / name).read_bytes().startswith(b"\x89PNG")
    logged = pd.read_csv(lesion_run.metrics_csv(0))
    assert {"train/loss", "val/loss", "train/loss_classification", "val/pauc", "val/auc", "rate/backbone"} <= set(
        logged
    )
    hyperparameters = torch.load(lesion_run.best_checkpoint(0), weights_only=True)["hyper_parameters"]
    assert hyperparameters["tile_size"] == 32  # that of data.image_size
    assert lesion_run.record()["status"] == "complete"


def test_one_fold_alone_is_that_fold_of_the_full_run(lesion_run, lesion_recipe, workdir):
    assert main(["fit", "--config", str(lesion_recipe), "--folds", "2", "--oof", "false"]) == 0
    alone, full = (
        torch.load(one.best_checkpoint(2), weights_only=True)["state_dict"] for one in (find_run(LOGS), lesion_run)
    )
    assert all(torch.equal(value, full[name]) for name, value in alone.items())


def test_a_named_loss_trains_and_is_saved_with_the_settings(lesion_run, lesion_recipe, workdir):
    short = ["--folds", "0", "--oof", "false", "--trainer.max_epochs", "1"]
    assert main(["fit", "--config", str(lesion_recipe), *short, "--model.loss", "CrossEntropyLoss"]) == 0
    run = find_run(LOGS)
    # Focal loss takes weight from every item.
    assert pd.read_csv(run.metrics_csv(0))["train/loss"][0] > pd.read_csv(lesion_run.metrics_csv(0))["train/loss"][0]
    assert isinstance(RunCLI(["--config", str(run.config(0))]).model.loss, CrossEntropyLoss)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.loss.class_path=FocalLoss", "--model.loss.alpha=2"], "FocalLoss.alpha is 2.0"),
        (["--model.dropout", "1"], "model.dropout is 1.0"),
        (["--model.backbone", "vit_tny"], "timm has no network 'vit_tny'"),
        (["--data.image_size", "50"], "data.image_size"),
        (["--data.positive_ratio", "0.01"], "data.positive_ratio 0.01"),
        (["--data.num_folds", "40"], "folds"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_mistake_gets_one_message_and_leaves_nothing(arguments, message, lesion_recipe, workdir, capsys):
    assert main(["fit", "--config", str(lesion_recipe), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("biomass: error:") == 1 and "Traceback" not in error
    assert not Path("lightning_logs").exists()


# Prediction


def test_bare_predict_reproduces_the_table_of_the_training(lesion_run, lesion_copy):
    for name in ("oof_predictions.csv", "oof_metrics.json"):
        assert (lesion_copy.path / name).read_bytes() == (lesion_run.path / name).read_bytes()


def test_embeddings_have_the_rows_of_the_table(lesion_copy):
    found = Embeddings.read(lesion_copy.path / "oof_embeddings.npz")
    assert found.ids.name == "isic_id"
    assert found.ids.tolist() == pd.read_csv(lesion_copy.oof_predictions)["isic_id"].tolist()
    assert found.arrays["embedding"].shape == (120, FEATURES) and found.arrays["embedding"].dtype == np.float32


@pytest.mark.parametrize("fold", range(3))
def test_predictions_and_embeddings_are_those_of_the_folds_own_checkpoint(fold, lesion_copy, lesion_data):
    table = pd.read_csv(lesion_copy.oof_predictions)
    held_out = (table["fold"] == fold).to_numpy()
    task = fold_model(lesion_copy, fold)
    with torch.inference_mode():
        steps = [task.predict_step(batch) for batch in held_out_batches(lesion_copy, lesion_data, fold)]
    names = [name for step in steps for name in step.ids]
    assert names == table["isic_id"][held_out].tolist()
    found = Embeddings.read(lesion_copy.path / "oof_embeddings.npz")
    embeddings = torch.cat([step.arrays["embedding"] for step in steps]).numpy()
    # Sums in another order differ in the last digits of float32.
    assert np.allclose(found.arrays["embedding"][held_out], embeddings, atol=1e-5)
    probabilities = torch.cat([step.columns["target_pred"] for step in steps]).numpy()
    assert np.allclose(table["target_pred"][held_out], probabilities, atol=1e-6)
    other = fold_model(lesion_copy, (fold + 1) % 3)
    with torch.inference_mode():
        another = other.predict_step(held_out_batches(lesion_copy, lesion_data, fold)[0]).arrays["embedding"].numpy()
    assert not np.allclose(found.arrays["embedding"][held_out][: len(another)], another, atol=1e-3)


def test_tta_averages_probabilities_and_features_of_the_flips(lesion_copy, lesion_data):
    plain = lesion_copy.oof_predictions.read_bytes()
    assert main(["predict", "--tta", "--folds", "1"]) == 0
    assert lesion_copy.oof_predictions.read_bytes() == plain
    table = pd.read_csv(lesion_copy.path / "oof_predictions_tta_folds_1.csv")
    found = Embeddings.read(lesion_copy.path / "oof_embeddings_tta_folds_1.npz")
    assert (lesion_copy.path / "oof_metrics_tta_folds_1.json").is_file()
    names = pd.read_csv(lesion_copy.oof_csv(1))["isic_id"].tolist()
    assert found.ids.tolist() == table["isic_id"].tolist() == names
    task = fold_model(lesion_copy, 1)
    batch = held_out_batches(lesion_copy, lesion_data, 1)[0]
    with torch.inference_mode():
        views = [batch["tiles"], batch["tiles"].flip(-1), batch["tiles"].flip(-2)]
        steps = [task.predict_step(batch | {"tiles": view}) for view in views]
    rows = table.set_index("isic_id").index.get_indexer(batch["id"])
    probabilities = torch.stack([step.columns["target_pred"] for step in steps]).mean(dim=0).numpy()
    assert np.allclose(table["target_pred"][rows], probabilities, atol=1e-6)
    embeddings = torch.stack([step.arrays["embedding"] for step in steps]).mean(dim=0).numpy()
    assert np.allclose(found.arrays["embedding"][rows], embeddings, atol=1e-5)


def test_the_test_split_becomes_a_submission_in_the_order_of_the_sample(lesion_copy, lesion_data):
    submission = pd.read_csv(lesion_copy.path / "submission.csv")
    predictions = pd.read_csv(lesion_copy.test_predictions)
    sample = pd.read_csv(lesion_data / "sample_submission.csv")
    assert list(submission) == ["isic_id", "target"] and list(predictions) == ["isic_id", "target_pred"]
    assert submission["isic_id"].tolist() == sample["isic_id"].tolist()
    assert predictions["isic_id"].tolist() == sample["isic_id"].tolist()[::-1]  # that of the test table
    assert submission["target"].tolist() == predictions["target_pred"].tolist()[::-1]
    assert submission["target"].between(0, 1).all() and submission["target"].nunique() == 4


def test_test_predictions_and_embeddings_are_the_means_of_the_folds(lesion_copy):
    tables, embeddings = [], []
    for fold in range(3):
        arguments = ["--split", "test", "--folds", str(fold), "--out", f"fold_{fold}.csv"]
        assert main(["predict", *arguments]) == 0
        tables.append(pd.read_csv(f"fold_{fold}_predictions.csv"))
        embeddings.append(Embeddings.read(Path(f"fold_{fold}_embeddings.npz")).arrays["embedding"])
    together = Embeddings.read(lesion_copy.path / "test_embeddings.npz")
    table = pd.read_csv(lesion_copy.test_predictions)
    assert together.ids.tolist() == table["isic_id"].tolist()
    assert together.arrays["embedding"].shape == (4, FEATURES)
    assert np.allclose(together.arrays["embedding"], np.mean(embeddings, axis=0), atol=1e-6)
    assert np.allclose(table["target_pred"], np.mean([part["target_pred"] for part in tables], axis=0), atol=1e-12)
    assert not np.allclose(embeddings[0], embeddings[1], atol=1e-3)


def test_a_photo_file_is_predicted_as_in_the_test_table(lesion_copy, lesion_data):
    table = pd.read_csv(lesion_copy.test_predictions)
    name = table["isic_id"][2]
    with h5py.File(lesion_data / "test-image.hdf5") as photos:
        Path("mole.jpg").write_bytes(np.asarray(photos[name][()]).tobytes())
    assert main(["predict", "--images", "mole.jpg"]) == 0
    predicted = pd.read_csv(lesion_copy.path / "image_predictions.csv")
    assert list(predicted) == ["isic_id", "target_pred"]
    assert predicted["isic_id"].tolist() == ["mole.jpg"]
    assert predicted["target_pred"][0] == pytest.approx(table["target_pred"][2], abs=1e-6)


def test_deriving_dead_is_refused_for_lesions(lesion_copy, capsys):
    before = sorted(Path().rglob("*"))
    assert main(["predict", "--derive_dead"]) == 2
    assert "--derive_dead is not for this run" in capsys.readouterr().err
    assert sorted(Path().rglob("*")) == before


def test_half_precision_leaves_no_equal_scores(lesion_copy):
    half_precision = ["--trainer.precision", "bf16-mixed", "--folds", "2", "--out", "half.csv"]
    assert main(["predict", *half_precision]) == 0
    half, full = (pd.read_csv(path)["target_pred"] for path in ("half.csv", lesion_copy.oof_csv(2)))
    assert half.nunique() == full.nunique() == len(full)
    assert not np.array_equal(half, full) and np.allclose(half, full, atol=0.05)


def test_a_data_folder_without_a_test_table_says_what_is_missing(lesion_copy, lesion_data, capsys):
    root = without_test_photos(lesion_data, Path("alone"))
    assert main(["predict", "--split", "test", "--data.root", str(root)]) == 2
    assert "test-metadata.csv" in capsys.readouterr().err
    (root / "test-metadata.csv").unlink()
    assert main(["predict", "--split", "test", "--data.root", str(root)]) == 2
    assert "test-metadata.csv does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("choice", [["--folds", "0"], ["--tta"]], ids=" ".join)
def test_what_the_stack_learns_from_stays_that_of_all_folds_without_flips(choice, lesion_copy):
    names = ("test_predictions.csv", "test_embeddings.npz")
    before = [(lesion_copy.path / name).read_bytes() for name in names]
    assert main(["predict", "--split", "test", *choice]) == 0
    assert [(lesion_copy.path / name).read_bytes() for name in names] == before
