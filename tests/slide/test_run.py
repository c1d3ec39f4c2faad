"""`biomass fit` and `biomass predict` on slides, end to end."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from biomass_pl.cli import main
from biomass_pl.evaluation.bootstrap import Bootstrap
from biomass_pl.evaluation.embeddings import Embeddings
from biomass_pl.evaluation.retrieval import retrieval_ranks
from biomass_pl.runs import find_run
from biomass_pl.slide.prediction_table import text_columns
from biomass_pl.slide.report import SlideReport
from biomass_pl.slide.tokenizer import BytePairTokenizer
from biomass_pl.training.callbacks import checkpoint
from tests.harness.interruptions import FailOnce
from tests.slide.conftest import slide_module

pytestmark = pytest.mark.usefixtures("quick_pictures")  # those of the session's run are real

LOGS = Path("lightning_logs")
REPORT = SlideReport(embeddings=True, questions=2, bootstrap=Bootstrap(draws=30))


def table_of(path: Path) -> pd.DataFrame:
    texts = dict.fromkeys(("specimen_id", "patient_id", *text_columns(2)), str)
    return pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""], float_precision="round_trip").fillna(
        dict.fromkeys(texts, "")
    )


def metrics_of(path: Path) -> dict:
    return json.loads(path.read_text())


def test_every_specimen_is_predicted_once_with_its_patient_and_report(slide_run, specimen_folders):
    table, items = table_of(slide_run.oof_predictions), slide_module(specimen_folders).items()
    assert list(table)[:4] == ["specimen_id", "patient_id", "fold", "report"]
    assert list(table)[-3:] == ["caption", "image_to_text_rank", "text_to_image_rank"]
    key = {"by": "specimen_id", "ignore_index": True}
    pd.testing.assert_frame_equal(table[list(items)].sort_values(**key), items.sort_values(**key))
    assert (table.groupby("patient_id")["fold"].nunique() == 1).all()
    labels = metrics_of(specimen_folders / "hdf5/zero_shot/diagnosis_classes.json")
    assert table["task_1_class"].tolist() == [labels[name] for name in table["specimen_id"]]
    columns = [name for name in table if name.startswith("task_1_prob_")]
    assert len(columns) == 8 and np.allclose(table[columns].sum(axis=1), 1)


def test_the_reported_scores_are_those_of_the_written_table(slide_run):
    scores, table = metrics_of(slide_run.path / "oof_metrics.json"), table_of(slide_run.oof_predictions)
    last = scores.pop("pooled_last")
    assert scores == REPORT.score(table) and last.keys() == scores["pooled"].keys()
    pooled = scores["pooled"]
    published = ("image_to_text_R@1", "text_to_image_mean_rank", "task_0_auc_roc", "task_1_macro_auc_roc", "bleu4")
    for name in (*published, "fewshot_0_auc_roc", "fewshot_1_probe_accuracy", "rouge", "cider"):
        assert {name, f"{name}_mean", f"{name}_ci_lower", f"{name}_ci_upper"} <= pooled.keys()
    assert pooled["image_to_text_R@1"] == pytest.approx((table["image_to_text_rank"] <= 1).mean())
    arrays = Embeddings.read(slide_run.fold_dir(1) / "oof_embeddings.npz").arrays
    ranks = retrieval_ranks(arrays["image_embedding"], arrays["text_embedding"])
    assert table["image_to_text_rank"][table["fold"] == 1].tolist() == ranks.image_to_text.tolist()


def test_the_best_epoch_is_the_one_that_predicts(slide_run):
    table = table_of(slide_run.oof_predictions)
    scores = metrics_of(slide_run.path / "oof_metrics.json")["folds"]
    for fold in range(2):
        record, logged = metrics_of(slide_run.fold_dir(fold) / "fold.json"), pd.read_csv(slide_run.metrics_csv(fold))
        assert record["val/loss"] == logged["val/loss"].min()
        best = logged.iloc[record["best_epoch"]]
        for name in ("image_to_text_R@1", "task_0_auc_roc", "fewshot_1_macro_auc_roc"):
            assert best[f"val/{name}"] == pytest.approx(scores[str(fold)][name], abs=1e-6)
        assert {"train/scale", "train/loss_caption", "val/loss_contrastive"} <= set(logged)
    assert len(table) == 60


def test_tokens_captions_and_pictures_stand_in_the_run(slide_run):
    for fold in range(2):
        stored = torch.load(slide_run.best_checkpoint(fold), weights_only=True)
        text = (slide_run.fold_dir(fold) / "tokenizer.json").read_text()
        assert text == stored["tokenizer"] and BytePairTokenizer.from_json(text, source="x").vocab_size == 300
    table = table_of(slide_run.oof_predictions)
    captions = metrics_of(slide_run.path / "oof_captions.json")["predictions"]
    assert {name: one["generated"] for name, one in captions.items()} == dict(
        zip(table["specimen_id"], table["caption"], strict=True)
    )
    assert "oof_captions.html" in {path.name for path in slide_run.path.iterdir()}
    for name in ("oof_predictions.png", "learning_curves.png", "fold_0/embeddings.png", "fold_1/embeddings.png"):
        with Image.open(slide_run.path / name) as drawn:
            assert min(drawn.size) > 100 and np.count_nonzero(drawn.convert("L").histogram()) > 20, name


def test_a_broken_training_with_workers_resumes_to_the_undisturbed_table(slide_run, slide_recipe, workdir, monkeypatch):
    # Epochs here pass faster than they are saved, and then not all are; on this clock, saving takes no time.
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: 0.0))
    FailOnce.happened.clear()
    failing = f"{FailOnce.__module__}.{FailOnce.__name__}"
    recipe = slide_recipe.read_text().replace(
        "trainer:\n", f"trainer:\n  callbacks:\n    - {{class_path: {failing}, init_args: {{epochs: [1]}}}}\n"
    )
    Path("broken.yaml").write_text(recipe)
    assert main(["fit", "--config", "broken.yaml", "--data.num_workers", "2", "--folds", "0"]) == 2
    run = find_run(LOGS)
    assert not run.is_finished(0) and len(pd.read_csv(run.metrics_csv(0))) == 1
    assert main(["fit", "--resume", "--trust", failing]) == 0
    assert run.oof_csv(0).read_bytes() == slide_run.oof_csv(0).read_bytes()
    rows = [pd.read_csv(one.metrics_csv(0)).drop(columns="seconds") for one in (run, slide_run)]
    pd.testing.assert_frame_equal(*rows)


def test_predicting_again_gives_the_same_whatever_the_batch(slide_copy, slide_run):
    assert main(["predict", "--data.batch_size", "5", "--out", "again.csv"]) == 0
    again, table = table_of(Path("again.csv")), table_of(slide_run.oof_predictions)
    assert again["caption"].tolist() == table["caption"].tolist()
    assert again["image_to_text_rank"].tolist() == table["image_to_text_rank"].tolist()
    np.testing.assert_allclose(again["task_0_prob_1"], table["task_0_prob_1"], atol=1e-4)
    assert Path("again_captions.html").is_file()


def test_a_network_of_one_kind_alone_runs_with_split_files_and_tests_itself(slide_recipe, workdir):
    splits = [
        argument for part in ("train", "val", "test") for argument in (f"--data.{part}_split", f"splits/{part}.txt")
    ]
    few = ["--trainer.max_epochs", "1", "--model.few_shot.examples", "[]", *splits]
    alone = [
        *few,
        "--model.name",
        "lm",
        *(f"--model.zero_shot.{kind}_mapping=[]" for kind in ("class_prompt", "specimen_class")),
    ]
    assert main(["fit", "--config", str(slide_recipe), *alone]) == 0
    run = find_run(LOGS)
    table, scores = table_of(run.oof_predictions), metrics_of(run.path / "oof_metrics.json")
    assert set(scores["folds"]) == {"0"} and "bleu4" in scores["pooled"]
    assert (
        not any("prob" in name or "rank" in name for name in table)
        and not (run.path / "fold_0/embeddings.png").exists()
    )
    assert (
        main(["fit", "--config", str(slide_recipe), *few, "--model.name", "clip", "--model.captions.enabled", "false"])
        == 0
    )
    run = find_run(LOGS)
    assert main(["predict", "--run", str(run.path), "--split", "test"]) == 0
    tested = metrics_of(run.path / "test_metrics.json")["pooled"]
    expected = table_of(run.path / "test_predictions.csv")
    assert tested["specimens"] == len(expected) and "bleu4" not in tested and "caption" not in expected
    assert tested["image_to_text_R@1"] == pytest.approx((expected["image_to_text_rank"] <= 1).mean())
