"""`biomass fit` and `biomass predict` on leaves, end to end."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from biomass_pl.cli import main
from biomass_pl.data.splits import Split
from biomass_pl.evaluation.class_scores import SCORES
from biomass_pl.evaluation.embeddings import Embeddings
from biomass_pl.leaf import task as task_module
from biomass_pl.leaf.data import LeafDataModule
from biomass_pl.leaf.sample.damage import KINDS
from biomass_pl.leaf.task import LeafClassifier
from biomass_pl.runs import Run, find_run
from biomass_pl.training.callbacks import checkpoint
from tests.harness.interruptions import FailOnce
from tests.leaf.conftest import CLASSES

pytestmark = pytest.mark.usefixtures("quick_pictures")  # those of the session's run are real

LOGS = Path("lightning_logs")
NAMES = sorted(KINDS)
PROBABILITIES = [f"prob_{name}" for name in NAMES]
COLUMNS = ["image_id", "fold", "label", "source", "label_pred", *PROBABILITIES]


def fold_model(run: Run, fold: int) -> LeafClassifier:
    """The network of a fold's best checkpoint."""
    path = run.best_checkpoint(fold)
    return LeafClassifier.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()


def held_out_batches(run: Run, root: Path, fold: int) -> list[dict]:
    data = LeafDataModule(root=root, image_size=32, batch_size=8, num_workers=0)
    data.use(Split(fold=fold, folds=pd.read_csv(run.folds_csv).set_index("image_id")["fold"]))
    data.select("held_out")
    return list(data.predict_dataloader())


def mean_of_views(task: LeafClassifier, batches: list[dict], *flips: bool) -> np.ndarray:
    """Probabilities (photos, 7) as a fold's network gives them, the mean over mirrored and plain photos."""
    views = []
    with torch.inference_mode():
        for flip in flips:
            shown = [batch | {"tiles": batch["tiles"].flip(-1) if flip else batch["tiles"]} for batch in batches]
            views.append(torch.cat([torch.stack([*task.predict_step(one).columns.values()], dim=1) for one in shown]))
    return torch.stack(views).mean(dim=0).numpy()


# Training


def test_every_original_is_predicted_once_and_copies_never(leaf_run, leaves):
    table = pd.read_csv(leaf_run.oof_predictions)
    assert list(table) == COLUMNS
    originals = sorted(path.relative_to(leaves).as_posix() for path in (leaves / "Original Dataset").rglob("*.jpg"))
    assert sorted(table["image_id"]) == originals and len(originals) == 70
    assert len(list((leaves / "Augmented Dataset").rglob("*.jpg"))) == 70
    assert (table["label"] == table["image_id"].str.split("/").str[1]).all()
    folds = pd.read_csv(leaf_run.folds_csv).set_index("image_id")["fold"]
    assert (table["fold"].to_numpy() == folds.loc[table["image_id"]].to_numpy()).all()
    assert (table.groupby("source")["fold"].nunique() == 1).all() and table["source"].nunique() < 70


def test_predicted_is_the_most_probable_class(leaf_run):
    table = pd.read_csv(leaf_run.oof_predictions)
    probabilities = table[PROBABILITIES].to_numpy()
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-12) and (probabilities > 0).all()
    assert table["label_pred"].tolist() == [NAMES[number] for number in probabilities.argmax(axis=1)]


def test_the_reported_scores_are_those_of_the_written_table(leaf_run):
    table = pd.read_csv(leaf_run.oof_predictions)
    scores = json.loads((leaf_run.path / "oof_metrics.json").read_text())
    named = {"photos", *SCORES, "ece", "ece_scaled", "log_loss_scaled", "per_class"}
    intervals = {"accuracy_interval", "f1_macro_interval", "interval_over"}
    assert set(scores) == {"pooled", "pooled_last", "folds", "constant"}
    assert set(scores["pooled"]) == set(scores["pooled_last"]) == named | intervals
    for fold, rows in [(None, table), *table.groupby("fold")]:
        reported = scores["pooled"] if fold is None else scores["folds"][str(fold)]
        assert fold is None or set(reported) == named | {"temperature"}
        assert reported["photos"] == len(rows)
        assert reported["accuracy"] == pytest.approx((rows["label"] == rows["label_pred"]).mean())
        expected = f1_score(rows["label"], rows["label_pred"], labels=NAMES, average="macro", zero_division=0)
        assert reported["f1_macro"] == pytest.approx(expected)
        own = rows[PROBABILITIES].to_numpy()[np.arange(len(rows)), rows["label"].map(NAMES.index)]
        assert reported["log_loss"] == pytest.approx(-np.log(own).mean())
    assert scores["pooled"]["interval_over"] == "source photos"
    low, high = scores["pooled"]["f1_macro_interval"]
    assert low < scores["pooled"]["f1_macro"] < high


def test_the_best_epoch_of_averaged_weights_is_the_one_that_predicts(leaf_run):
    table = pd.read_csv(leaf_run.oof_predictions)
    for fold in range(2):
        rows = table[table["fold"] == fold]
        record = json.loads((leaf_run.fold_dir(fold) / "fold.json").read_text())
        logged = pd.read_csv(leaf_run.metrics_csv(fold))
        assert record["val/f1_macro"] == logged["val/f1_macro"].max()
        predicted = f1_score(rows["label"], rows["label_pred"], labels=NAMES, average="macro", zero_division=0)
        assert record["val/f1_macro"] == pytest.approx(predicted, abs=1e-6)
        accuracy = logged["val/accuracy"][record["best_epoch"]]
        assert accuracy == pytest.approx((rows["label"] == rows["label_pred"]).mean(), abs=1e-6)
        saved = torch.load(leaf_run.best_checkpoint(fold), weights_only=True)
        assert saved["classes"] == NAMES and "averaging_state" in saved


def test_curves_have_the_published_names(leaf_run):
    names = {"train/loss", "train/lr", "val/accuracy", "val/f1_macro", "val/loss"}
    for fold in range(2):
        assert names <= set(pd.read_csv(leaf_run.metrics_csv(fold)))
        events = EventAccumulator(str(leaf_run.fold_dir(fold))).Reload()
        assert names <= set(events.Tags()["scalars"])
        assert len(events.Scalars("val/f1_macro")) == 3


def test_the_pictures_show_something(leaf_run):
    of_run = ("oof_predictions.png", "oof_photos.png", "learning_curves.png")
    of_fold = [f"fold_{fold}/{name}.png" for fold in range(2) for name in ("embeddings", "attention")]
    for name in (*of_run, *of_fold):
        with Image.open(leaf_run.path / name) as drawn:
            greys = np.count_nonzero(drawn.convert("L").histogram())
            assert min(drawn.size) > 100 and greys > 20, name


def test_a_broken_training_with_workers_resumes_to_the_undisturbed_table(leaf_run, leaf_recipe, workdir, monkeypatch):
    # Epochs here pass faster than they are saved, and then not all are; on this clock, saving takes no time.
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: 0.0))
    FailOnce.happened.clear()
    failing = f"{FailOnce.__module__}.{FailOnce.__name__}"
    recipe = leaf_recipe.read_text().replace(
        "callbacks:\n", f"callbacks:\n    - {{class_path: {failing}, init_args: {{epochs: [2]}}}}\n"
    )
    Path("broken.yaml").write_text(recipe)
    assert main(["fit", "--config", "broken.yaml", "--data.num_workers", "2", "--folds", "0"]) == 2
    run = find_run(LOGS)
    assert not run.is_finished(0) and len(pd.read_csv(run.metrics_csv(0))) == 2
    assert main(["fit", "--resume", "--trust", failing]) == 0
    assert "Fold 0 goes on with epoch 3 of 3\n" in run.log.read_text()
    assert run.oof_csv(0).read_bytes() == leaf_run.oof_csv(0).read_bytes()
    assert run.oof_last_csv(0).read_bytes() == leaf_run.oof_last_csv(0).read_bytes()
    logged, expected = (pd.read_csv(one.metrics_csv(0)).drop(columns="seconds") for one in (run, leaf_run))
    pd.testing.assert_frame_equal(logged, expected, rtol=1e-6)
    resumed, whole = (torch.load(one.last_checkpoint(0), weights_only=True) for one in (run, leaf_run))
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(value, whole[key][name]) for name, value in resumed[key].items())


# Prediction


def test_bare_predict_reproduces_the_table_of_the_training(leaf_copy, leaf_run):
    assert main(["predict"]) == 0
    for name in ("oof_predictions.csv", "oof_metrics.json"):
        assert (leaf_copy.path / name).read_bytes() == (leaf_run.path / name).read_bytes()
    found = Embeddings.read(leaf_copy.path / "oof_embeddings.npz")
    assert found.ids.tolist() == pd.read_csv(leaf_copy.oof_predictions)["image_id"].tolist()
    assert found.arrays["embedding"].shape == (70, 16)


def test_mirrored_photos_have_their_probabilities_averaged_and_are_classified_afterwards(leaf_copy, leaves):
    plain = leaf_copy.oof_predictions.read_bytes()
    assert main(["predict", "--tta"]) == 0
    assert leaf_copy.oof_predictions.read_bytes() == plain
    table = pd.read_csv(leaf_copy.path / "oof_predictions_tta.csv")
    assert list(table) == COLUMNS
    for fold in range(2):
        rows = table[table["fold"] == fold].set_index("image_id")
        task, batches = fold_model(leaf_copy, fold), held_out_batches(leaf_copy, leaves, fold)
        names = [name for batch in batches for name in batch["id"]]
        both = mean_of_views(task, batches, False, True)
        assert np.allclose(rows.loc[names, PROBABILITIES], both, atol=1e-6)
        assert not np.allclose(both, mean_of_views(task, batches, False), atol=1e-4)
    assert table["label_pred"].tolist() == [NAMES[number] for number in table[PROBABILITIES].to_numpy().argmax(axis=1)]


def test_a_folder_of_photos_is_predicted_by_all_folds_without_the_data(leaf_copy, leaves):
    for fold in range(2):
        config = leaf_copy.config(fold)
        config.write_text(config.read_text().replace(str(leaves), "gone"))
    known = pd.read_csv(leaf_copy.oof_predictions)["image_id"]
    photos = [Path("new/Curl Virus/leaf.jpg"), Path("new/leaf.jpg")]
    for path, name in zip(photos, known[[3, 30]], strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(leaves / name, path)
    assert main(["predict", "--images", "new"]) == 0
    found = pd.read_csv(leaf_copy.path / "image_predictions.csv")
    assert list(found) == ["image_id", "label_pred", *PROBABILITIES] and set(found["image_id"]) == set(map(str, photos))
    data = LeafDataModule(root=Path("gone"), image_size=32, num_workers=0)
    data.select("files", files=[Path(name) for name in found["image_id"]])
    batches = list(data.predict_dataloader())
    expected = np.mean([mean_of_views(fold_model(leaf_copy, fold), batches, False) for fold in range(2)], axis=0)
    assert np.allclose(found[PROBABILITIES], expected, atol=1e-6)
    assert found["label_pred"].tolist() == [NAMES[number] for number in expected.argmax(axis=1)]


def test_a_checkpoint_without_its_classes_is_one_message(leaf_copy, capsys):
    path = leaf_copy.best_checkpoint(0)
    saved = torch.load(path, weights_only=True)
    for classes in (None, NAMES[:5]):
        torch.save(saved | {"classes": classes}, path)
        assert main(["predict", "--folds", "0"]) == 2
        assert_one_message(capsys, "does not tell its classes" if classes is None else "does not fit")


# Other networks, and bands beside the colours


def small_fit(recipe: Path, root: Path, *settings: str) -> Run:
    """An epoch of one fold."""
    short = ["--folds", "0", "--trainer.max_epochs", "1", "--data.root", str(root)]
    assert main(["fit", "--config", str(recipe), *short, *settings]) == 0
    return find_run(LOGS)


LARGER = ["--data.image_size=64"]
"""Batch normalisation cannot learn from one photo of one pixel."""


def test_a_convolutional_network_trains_and_shows_where_it_looked(leaf_recipe, leaf_root, workdir):
    run = small_fit(leaf_recipe, leaf_root, "--model.backbone", "test_resnet", "--model.backbone_args={}", *LARGER)
    assert list(pd.read_csv(run.oof_predictions))[5:] == [f"prob_{name}" for name in CLASSES]
    assert len(pd.read_csv(run.oof_predictions)) == 9
    for name in ("embeddings", "attention"):
        assert (run.fold_dir(0) / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def bands(leaf_root, tmp_path_factory) -> Path:
    """Two bands of every photo of the three classes: its red and blue. Not to be changed."""
    folder = tmp_path_factory.mktemp("bands")
    for photo in leaf_root.rglob("*.png"):
        (folder / photo.parent.name).mkdir(exist_ok=True)
        with Image.open(photo) as colours:
            np.save(folder / photo.parent.name / f"{photo.stem}.npy", np.asarray(colours)[..., ::2])
    return folder


TWO_STREAMS = ["--model.backbone_args.embed_dim=12", "--model.spectral_channels=2"]


def test_colours_and_bands_train_and_predict_together(leaf_recipe, leaf_root, bands, workdir, capsys):
    run = small_fit(leaf_recipe, leaf_root, *TWO_STREAMS, f"--data.spectral={bands}", "--data.num_workers=2")
    table, trained = pd.read_csv(run.oof_predictions), run.oof_predictions.read_bytes()
    assert len(table) == 9 and (run.fold_dir(0) / "attention.png").is_file()
    assert main(["predict"]) == 0
    assert run.oof_predictions.read_bytes() == trained
    photo = leaf_root / table["image_id"][4]
    assert main(["predict", "--images", str(photo)]) == 0
    found = pd.read_csv(run.path / "image_predictions.csv")
    names = [f"prob_{name}" for name in CLASSES]
    assert np.allclose(found[names], table[names].iloc[[4]], atol=1e-6)
    capsys.readouterr()
    assert main(["predict", "--images", str(photo), "--data.spectral=null"]) == 2
    assert_one_message(capsys, "The photos have 0 further bands, and the network takes 2")


# Bad input


def assert_one_message(capsys, *parts: str) -> None:
    error = capsys.readouterr().err
    message = error[error.index("biomass: error:") :]
    assert error.count("biomass: error:") == 1 and "Traceback" not in error
    assert [part for part in parts if part not in message] == [], message


def assert_refused(recipe: Path, root: Path, settings: list[str], parts: tuple[str, ...], capsys) -> None:
    assert main(["fit", "--config", str(recipe), "--data.root", str(root), *settings]) == 2
    assert_one_message(capsys, *parts)
    assert not LOGS.exists()


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (["--data.num_folds=7"], ("3 class(es) have fewer photos than the 7 folds", "Curl Virus: 6 photo(s)")),
        (["--data.severity=mild"], ("severity", "'mild'", "light", "moderate", "aggressive")),
        (["--data.image_size=48"], ("data.image_size", "a multiple of 32 px", "32 or 64")),
        (
            ["--model.backbone=hvit_small", "--model.backbone_args={}", "--data.image_size=224"],
            ("data.image_size", "a multiple of 128 px", "128 or 256"),
        ),
        (["--model.spectral_channels=2", "--model.use_dfca=false"], ("model.spectral_channels is 2", "has 0 bands")),
        (["--model.class_weights=true", "--data.balance=sampler"], ("model.class_weights and data.balance",)),
        (["--data.spectral=nowhere"], ("Folder nowhere does not exist", "data.spectral")),
        (["--model.dropout=1"], ("model.dropout is 1.0",)),
        (["--model.loss.class_path=FocalLoss", "--model.loss.gamma=0.5"], ("FocalLoss.gamma is 0.5",)),
        (["--model.mixing.probability=2"], ("BatchMixing.probability is 2",)),
        (["--model.backbone_args.drop_pth_rate=0.1"], ("no option 'drop_pth_rate'", "Did you mean 'drop_path_rate'")),
        (["--data.batch_size=64"], ("data.batch_size 64 is more than the 9 training photos",)),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_setting_that_cannot_work_gets_one_message(settings, parts, leaf_root, leaf_recipe, workdir, capsys):
    assert_refused(leaf_recipe, leaf_root, settings, parts, capsys)


@pytest.fixture
def spoilt(leaf_root, tmp_path) -> Path:
    """A copy of the three classes that a test may spoil."""
    return Path(shutil.copytree(leaf_root, tmp_path / "data"))


def test_a_class_folder_without_photos_is_named(spoilt, leaf_recipe, workdir, capsys):
    (spoilt / "Bacterial Blight").mkdir()
    assert_refused(leaf_recipe, spoilt, [], ("1 class folder(s) hold no photo", "Bacterial Blight"), capsys)


def test_photos_that_cannot_be_read_are_named(spoilt, leaf_recipe, workdir, capsys):
    whole = (spoilt / "Curl Virus/Curl_0.png").read_bytes()
    (spoilt / "Curl Virus/Curl_0.png").write_bytes(whole[: len(whole) // 2])
    (spoilt / "Leaf Redding/Leaf_3.png").write_bytes(b"no picture")
    assert_refused(leaf_recipe, spoilt, [], ("Curl_0.png", "Leaf_3.png: it is not a picture"), capsys)


def test_a_photo_under_two_classes_is_named_with_both(spoilt, leaf_recipe, workdir, capsys):
    shutil.copy(spoilt / "Curl Virus/Curl_0.png", spoilt / "Leaf Redding/again.png")
    parts = ("1 photo(s) stand under several classes", "Curl_0.png (Curl Virus)", "again.png (Leaf Redding)")
    assert_refused(leaf_recipe, spoilt, [], parts, capsys)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (Path.unlink, ("1 of 18 photos have no bands", "Curl_1.png")),
        (lambda path: np.save(path, np.zeros((20, 20, 2), np.uint8)), ("Curl_1.npy of shape 20 x 20 x 2",)),
        (lambda path: np.save(path, np.zeros((36, 48, 3), np.uint8)), ("Curl_1.npy are 3, most others 2",)),
        (lambda path: np.save(path, np.array([{}]), allow_pickle=True), ("Curl_1.npy cannot be read",)),
    ],
    ids=["missing", "of another size", "of another number", "with objects"],
)
def test_bands_that_do_not_fit_are_named(change, parts, bands, leaf_root, leaf_recipe, tmp_path, workdir, capsys):
    folder = Path(shutil.copytree(bands, tmp_path / "bands"))
    change(folder / "Curl Virus/Curl_1.npy")
    assert_refused(leaf_recipe, leaf_root, [*TWO_STREAMS, f"--data.spectral={folder}"], parts, capsys)


def test_a_fusion_without_bands_is_warned_of_once_and_trains(leaf_recipe, leaf_root, workdir, capsys):
    task_module._warn_of_fusion_without_bands.cache_clear()
    run = small_fit(leaf_recipe, leaf_root, "--model.use_dfca=true", "--folds", "0", "1")
    told = capsys.readouterr()
    assert (told.out + told.err).count("model.use_dfca does nothing without bands") == 1
    assert run.finished_folds() == [0, 1]
