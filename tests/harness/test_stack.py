"""`biomass stack` on finished runs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biomass_pl.cli import main
from biomass_pl.evaluation.embeddings import Embeddings
from biomass_pl.evaluation.image_scores import image_score_features
from biomass_pl.evaluation.stacking import StackConfig, stack
from biomass_pl.lesion.data import LesionDataModule
from biomass_pl.lesion.report import LesionReport
from biomass_pl.pasture.report import score_table
from biomass_pl.pasture.targets import TARGETS
from biomass_pl.runs import Run, find_run
from tests.conftest import done_in, in_workdir, made_once, without_test_photos

pytest.importorskip("lightgbm")

COMMANDS = {
    "stack_tabular_predictions": [],
    "stack_tabular": ["--features", "tabular"],
    "stack_embeddings": ["--features", "embeddings", "--pca", "4"],
}
FILES = {
    "importance.csv",
    "importance.png",
    "oof_metrics.json",
    "oof_predictions.csv",
    "oof_predictions.png",
    "submission.csv",
    "test_predictions.csv",
}
PREDICTED = [f"{target}_pred" for target in TARGETS]


@pytest.fixture(scope="module")
def stacked(lesion_predicted, tmp_path_factory) -> Run:
    """The predicted run on lesions with all three stacks. Not to be changed."""

    def make(folder: Path) -> None:
        shutil.copytree(lesion_predicted, folder, dirs_exist_ok=True)
        done_in(folder, *(["stack", "--seeds", "1", *arguments] for arguments in COMMANDS.values()))

    return find_run(made_once(tmp_path_factory, "stacked", make) / "lightning_logs")


@pytest.fixture(scope="module")
def pasture(trained, tmp_path_factory) -> Run:
    """The run on a pasture, predicted and stacked on embeddings. Not to be changed."""
    stacking = ["stack", "--seeds", "1", "--features", "embeddings", "--pca", "4"]

    def make(folder: Path) -> None:
        shutil.copytree(trained, folder, dirs_exist_ok=True)
        done_in(folder, ["predict"], ["predict", "--split", "test"], stacking)

    return find_run(made_once(tmp_path_factory, "pasture", make) / "lightning_logs")


# Skin lesions


@pytest.mark.parametrize("name", COMMANDS)
def test_a_stack_writes_the_tables_of_a_run_with_its_own_predictions(name, stacked):
    folder = stacked.path / name
    assert {path.name for path in folder.iterdir()} == FILES
    table, network = pd.read_csv(folder / "oof_predictions.csv"), pd.read_csv(stacked.oof_predictions)
    assert list(table) == list(network)
    same = ["isic_id", "patient_id", "fold", "target"]
    assert table[same].equals(network[same])
    assert table["target_pred"].between(0, 1).all()
    assert not np.allclose(table["target_pred"], network["target_pred"], atol=1e-3)
    assert json.loads((folder / "oof_metrics.json").read_text()) == LesionReport().score(table)
    for picture in ("importance.png", "oof_predictions.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_test_photos_are_predicted_in_the_order_of_the_sample(name, stacked, lesion_data):
    submission, predictions = (
        pd.read_csv(stacked.path / name / file) for file in ("submission.csv", "test_predictions.csv")
    )
    sample = pd.read_csv(lesion_data / "sample_submission.csv")
    assert list(submission) == ["isic_id", "target"] and list(predictions) == ["isic_id", "target_pred"]
    assert submission["isic_id"].tolist() == sample["isic_id"].tolist()
    by_name = predictions.set_index("isic_id")["target_pred"]
    assert submission["target"].tolist() == by_name[submission["isic_id"]].tolist()
    assert submission["target"].between(0, 1).all()


def test_what_is_learned_from_is_what_was_asked_for(stacked):
    features = {name: set(pd.read_csv(stacked.path / name / "importance.csv")["feature"]) for name in COMMANDS}
    scores = {"target_pred_logit", "target_pred_logit_z"}
    assert features["stack_embeddings"] == {f"embedding_pc{component}" for component in range(4)}
    assert features["stack_tabular_predictions"] == features["stack_tabular"] | scores
    assert {"tbp_lv_H", "sex", "ugly_duckling_max"} <= features["stack_tabular"]
    leaks = ("iddx", "mel_", "dnn_lesion_confidence", "lesion_id", "target")
    assert not [name for name in features["stack_tabular"] if name.startswith(leaks) or "dnn" in name]
    for name in COMMANDS:
        gain = pd.read_csv(stacked.path / name / "importance.csv")["gain"]
        assert gain.sum() == pytest.approx(1, abs=1e-9) and gain.is_monotonic_decreasing


def test_rows_of_tables_predictions_and_targets_belong_together(stacked, lesion_data):
    """What the command wrote is what the boosters give for features that are put together by name here."""
    table, test = pd.read_csv(stacked.oof_predictions), pd.read_csv(stacked.test_predictions)
    tables = LesionDataModule(root=lesion_data, num_workers=0).table_features(None)
    parts = []
    for rows, tabular, patients in (
        (table, tables.labelled, tables.groups[0]),
        (test, tables.test, tables.groups[1]),
    ):
        names = rows["isic_id"]
        groups = pd.Series([patients[name] for name in names])
        scores = image_score_features(rows[["target_pred"]], groups, kind="classification")
        parts.append(pd.concat([tabular.reindex(names).reset_index(drop=True), scores], axis=1))
    result = stack(
        features=parts[0],
        embeddings=(),
        targets=table[["target"]],
        folds=table["fold"].to_numpy(),
        kind="classification",
        config=StackConfig(seeds=1),
        test_features=parts[1],
    )
    folder = stacked.path / "stack_tabular_predictions"
    assert np.allclose(pd.read_csv(folder / "oof_predictions.csv")["target_pred"], result.predictions[:, 0], atol=1e-9)
    written = pd.read_csv(folder / "test_predictions.csv")
    assert written["isic_id"].tolist() == test["isic_id"].tolist()
    assert np.allclose(written["target_pred"], result.test_predictions[:, 0], atol=1e-9)


def test_embeddings_are_found_by_name_whatever_their_order(stacked, workdir):
    run = in_workdir(stacked, workdir)
    for split in ("oof", "test"):
        path = run.path / f"{split}_embeddings.npz"
        found = Embeddings.read(path)
        found.in_order(found.ids[::-1].reset_index(drop=True)).write(path)
    assert main(["stack", "--seeds", "1", *COMMANDS["stack_embeddings"], "--out", "again"]) == 0
    for name in ("oof_predictions.csv", "test_predictions.csv"):
        assert Path("again", name).read_bytes() == (stacked.path / "stack_embeddings" / name).read_bytes()


def test_the_run_is_left_as_it_was(stacked, lesion_predicted):
    original = find_run(lesion_predicted / "lightning_logs").path
    for path in original.rglob("*"):
        copied = stacked.path / path.relative_to(original)
        assert path.is_dir() or copied.read_bytes() == path.read_bytes()
    assert {path.name for path in stacked.path.iterdir()} == {path.name for path in original.iterdir()} | set(COMMANDS)


def test_chosen_columns_seeds_and_draws_change_what_is_learned(stacked, workdir):
    in_workdir(stacked, workdir)
    chosen = ["--features", "tabular", "--columns", "tbp_lv_H", "sex", "--negatives_per_positive", "2"]
    assert main(["stack", "--seeds", "2", *chosen, "--out", "few"]) == 0
    features = set(pd.read_csv("few/importance.csv")["feature"])
    assert {"tbp_lv_H", "sex"} <= features and not [name for name in features if "areaMM2" in name]
    assert {path.name for path in Path("few").iterdir()} == FILES


def test_the_same_command_gives_the_same_tables_and_tables_alone_need_no_predictions(stacked, lesion_run, workdir):
    run = in_workdir(lesion_run, workdir)
    assert not run.test_predictions.exists()
    assert main(["stack", "--seeds", "1", *COMMANDS["stack_tabular"]]) == 0
    tables = [name for name in FILES if not name.endswith(".png")]
    for name in tables:
        written, expected = (one.path / "stack_tabular" / name for one in (run, stacked))
        assert written.read_bytes() == expected.read_bytes()


def test_test_photos_that_were_not_predicted_are_left_out_with_a_warning(stacked, lesion_run, workdir, capsys):
    run = in_workdir(lesion_run, workdir)
    assert main(["stack", "--seeds", "1"]) == 0
    assert "warning: The test photos are left out" in capsys.readouterr().err
    folder = run.path / "stack_tabular_predictions"
    assert {path.name for path in folder.iterdir()} == FILES - {"submission.csv", "test_predictions.csv"}
    expected = stacked.path / folder.name / "oof_predictions.csv"
    assert (folder / "oof_predictions.csv").read_bytes() == expected.read_bytes()


def test_a_test_table_without_rows_gives_no_submission(lesion_run, lesion_data, workdir):
    run = in_workdir(lesion_run, workdir)
    root = without_test_photos(lesion_data, workdir / "data")
    run.config(0).write_text(run.config(0).read_text().replace(str(lesion_data), str(root)))
    assert main(["stack", "--seeds", "1", "--features", "tabular", "--columns", "tbp_lv_H", "sex"]) == 0
    written = {path.name for path in (run.path / "stack_tabular").iterdir()}
    assert written == FILES - {"submission.csv", "test_predictions.csv"}


# A pasture


def test_a_pasture_has_embeddings_in_the_order_of_its_table(pasture):
    found = Embeddings.read(pasture.path / "oof_embeddings.npz")
    assert found.ids.name == "image_id"
    assert found.ids.tolist() == pd.read_csv(pasture.oof_predictions)["image_id"].tolist()
    assert found.arrays["embedding"].shape == (24, 64) and np.isfinite(found.arrays["embedding"]).all()
    test = Embeddings.read(pasture.path / "test_embeddings.npz")
    assert test.ids.tolist() == pd.read_csv(pasture.test_predictions)["image_id"].tolist()


def test_a_pasture_is_stacked_target_by_target(pasture, rendered):
    folder = pasture.path / "stack_embeddings"
    assert {path.name for path in folder.iterdir()} == FILES
    table, network = pd.read_csv(folder / "oof_predictions.csv"), pd.read_csv(pasture.oof_predictions)
    same = [column for column in network if column not in PREDICTED]
    assert list(table) == list(network) and table[same].equals(network[same])
    assert json.loads((folder / "oof_metrics.json").read_text()) == score_table(table)
    for target in TARGETS:
        assert not np.allclose(table[f"{target}_pred"], network[f"{target}_pred"])
    submission = pd.read_csv(folder / "submission.csv")
    assert submission["sample_id"].tolist() == pd.read_csv(rendered / "sample_submission.csv")["sample_id"].tolist()


def test_a_pasture_learns_from_its_predictions_by_default(pasture, workdir):
    run = in_workdir(pasture, workdir)
    assert main(["stack", "--seeds", "1"]) == 0
    assert set(pd.read_csv(run.path / "stack_predictions" / "importance.csv")["feature"]) == set(PREDICTED)
