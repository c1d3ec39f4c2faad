"""`biomass stack` on files of features, without a trained run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biomass_pl.cli import main
from biomass_pl.pasture.report import score_table
from biomass_pl.pasture.tables import read_labels
from biomass_pl.pasture.targets import SUMS, TARGETS
from biomass_pl.runs import Run, find_run
from tests.conftest import done_in, made_once

pytestmark = pytest.mark.usefixtures("quick_pictures")

WIDTH = 6
PREDICTED = [f"{target}_pred" for target in TARGETS]
FILES = {"run.json", "folds.csv", "log.txt", "oof_predictions.csv", "oof_metrics.json", "oof_predictions.png"}
FOLDERS = {"fold_0", "fold_1", "fold_2"}


def features(root: Path, path: Path, *, seed: int = 0, tiles: int = 0) -> Path:
    """Features of all photos, in another order than the labels, of which the first tell the grams."""
    labels = read_labels(root).sample(frac=1, random_state=seed)
    generator = np.random.default_rng(seed)
    values = generator.normal(scale=0.3, size=(len(labels), WIDTH))
    values[:, :3] += labels[list(TARGETS)[:3]].to_numpy() ** 0.5
    if tiles:
        values = values[:, None] + generator.normal(scale=0.3, size=(len(labels), tiles, WIDTH))
    np.savez(path, image_id=labels["image_id"].to_numpy(dtype=str), features=values)
    return path


@pytest.fixture(scope="module")
def labels_alone(rendered, recipe, tmp_path_factory) -> Path:
    """A working folder with a recipe, the label table without a photo, and features. Not to be changed."""

    def make(folder: Path) -> None:
        (folder / "data").mkdir()
        shutil.copy(rendered / "train.csv", folder / "data")
        (folder / "small.yaml").write_text(recipe.read_text().replace(str(rendered), "data"))
        features(rendered, folder / "one.npz")
        features(rendered, folder / "two.npz", seed=1, tiles=2)

    return made_once(tmp_path_factory, "labels_alone", make)


def command(*arguments: str, learner: str = "ridge") -> list[str]:
    return ["stack", "--config", "small.yaml", "--embeddings", "one.npz", "--learner", learner, *arguments]


@pytest.fixture(scope="module")
def learned(labels_alone, tmp_path_factory) -> Path:
    """The same with runs of two learners, and their blend. Not to be changed."""

    def make(folder: Path) -> None:
        shutil.copytree(labels_alone, folder, dirs_exist_ok=True)
        done_in(folder, command(), command(learner="gp"), ["stack", "--blend", *(str(run) for run in RUNS)])

    return made_once(tmp_path_factory, "learned", make)


RUNS = tuple(Path("lightning_logs", f"small_{learner}", "version_0") for learner in ("ridge", "gp"))
BLEND = Path("lightning_logs/blend/version_0")


@pytest.fixture
def folder(learned, workdir) -> Path:
    """A copy in a working folder of the test's own."""
    return Path(shutil.copytree(learned, workdir, dirs_exist_ok=True))


def told(arguments: list[str], capsys) -> str:
    """The one message of a command that must end with an error and make no run."""
    before = sorted(Path("lightning_logs").rglob("*"))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("biomass: error:") == 1 and "Traceback" not in error
    assert sorted(Path("lightning_logs").rglob("*")) == before
    return error


# Learners


@pytest.mark.parametrize("path", [*RUNS, BLEND])
def test_a_run_of_its_own_is_made_without_any_photo(path, learned):
    run = Run(learned / path)
    assert {file.name for file in run.path.iterdir()} == FILES | FOLDERS
    assert run.is_complete() and run.finished_folds() == [0, 1, 2]
    assert run.learner == run.path.parent.name.removeprefix("small_")
    table = pd.read_csv(run.oof_predictions)
    assert len(table) == 24 and list(table)[:2] == ["image_id", "fold"] and list(table)[-5:] == PREDICTED
    folds = pd.read_csv(run.folds_csv).set_index("image_id")["fold"]
    assert table["fold"].tolist() == folds[table["image_id"]].tolist()
    metrics = json.loads((run.path / "oof_metrics.json").read_text())
    assert metrics["pooled"] == score_table(table)["pooled"]
    assert metrics["pooled"]["weighted_r2"] > 0.5


@pytest.mark.parametrize("path", [*RUNS, BLEND])
def test_sums_hold_and_nothing_is_below_zero(path, learned):
    table = pd.read_csv(Run(learned / path).oof_predictions)
    assert (table[PREDICTED] >= 0).all(axis=None)
    for name, parts in SUMS.items():
        assert table[[f"{part}_pred" for part in parts]].sum(axis=1).to_numpy() == pytest.approx(
            table[f"{name}_pred"].to_numpy(), abs=1e-5
        )


def test_the_same_command_gives_the_same_table_and_folds_of_another_seed_another(folder):
    assert main(command("--name", "again")) == 0
    assert main(command("--name", "other", "--seed_everything", "5")) == 0
    tables = [
        Path("lightning_logs", name, "version_0", "oof_predictions.csv").read_bytes()
        for name in ("small_ridge", "again", "other")
    ]
    assert tables[0] == tables[1] != tables[2]


def test_parts_can_be_added_and_several_files_be_learned_from(folder):
    two = ["--embeddings", "one.npz", "two.npz", "--pca", "3"]
    assert main([*command(), *two, "--sums", "add", "--target_transform", "none", "--out", "both"]) == 0
    table = pd.read_csv("both/oof_predictions.csv")
    assert np.allclose(table["GDM_g_pred"], table["Dry_Green_g_pred"] + table["Dry_Clover_g_pred"], atol=1e-5)
    assert json.loads(Path("both/run.json").read_text())["learner"] == "ridge"
    single = pd.read_csv(RUNS[0] / "oof_predictions.csv")
    assert not np.allclose(table[PREDICTED], single[PREDICTED])


def test_boosters_tell_what_they_used(folder):
    pytest.importorskip("lightgbm")
    assert main(command("--seeds", "1", "--out", "boosted", learner="lightgbm")) == 0
    used = pd.read_csv("boosted/importance.csv")
    assert len(used) == WIDTH and used["gain"].is_monotonic_decreasing


def test_grams_and_features_of_held_out_photos_change_nothing_in_their_predictions(folder):
    """Neither the learner nor what goes before it sees them; the groups of the inner folds stay the same."""
    before = pd.read_csv(RUNS[0] / "oof_predictions.csv").set_index("image_id")
    held_out = before.index[before["fold"] == 1]
    folds = before["fold"].rename_axis("sample_id_prefix").reset_index()
    folds.to_csv("folds.csv", index=False)
    given = ["--data.fold_csv", "folds.csv"]
    assert main(command("--out", "clean", *given)) == 0
    rows = pd.read_csv("data/train.csv")
    poisoned = rows["sample_id"].str.rpartition("__")[0].isin(held_out)
    rows.loc[poisoned, "target"] = rows.loc[poisoned, "target"].to_numpy()[::-1] + 50
    rows.to_csv("data/train.csv", index=False)
    with np.load("one.npz") as archive:
        names, values = archive["image_id"], archive["features"]
    last = np.isin(names, held_out[1:])
    values[last] *= 1e3  # one held-out photo stays as it was
    np.savez("one.npz", image_id=names, features=values)
    assert main(command("--out", "poisoned", *given)) == 0
    clean, after = (pd.read_csv(f"{name}/oof_predictions.csv").set_index("image_id") for name in ("clean", "poisoned"))
    first = held_out[:1]
    assert clean.loc[first, PREDICTED].equals(after.loc[first, PREDICTED])
    assert not clean.loc[before["fold"] != 1, PREDICTED].equals(after.loc[before["fold"] != 1, PREDICTED])


def test_photos_of_fold_minus_one_are_learned_from_and_not_predicted(folder):
    names = pd.read_csv(RUNS[0] / "folds.csv")["image_id"]
    folds = pd.DataFrame({"sample_id_prefix": names, "fold": [-1, 0, 1] * 8})
    folds.to_csv("folds.csv", index=False)
    assert main(command("--data.fold_csv", "folds.csv", "--out", "part")) == 0
    table = pd.read_csv("part/oof_predictions.csv")
    assert sorted(table["image_id"]) == sorted(names[folds["fold"] >= 0]) and table[PREDICTED].notna().all(axis=None)


# What others make of it


def test_a_learner_is_no_run_to_predict_with(folder, capsys):
    error = told(["predict", "--run", str(RUNS[1])], capsys)
    assert "holds predictions of biomass stack (gp) and no networks to predict with" in error
    assert "There is no run in lightning_logs" in told(["predict"], capsys)
    assert "There is no unfinished run" in told(["fit", "--resume"], capsys)


def test_a_learner_can_be_stacked_on(folder):
    pytest.importorskip("lightgbm")
    assert main(["stack", "--run", str(RUNS[1]), "--learner", "ridge", "--features", "predictions"]) == 0
    assert (RUNS[1] / "stack_predictions" / "oof_metrics.json").is_file()


def test_a_given_folder_takes_the_same_again_and_nothing_else(folder, capsys):
    assert main(command("--out", "mine")) == 0
    written = Path("mine/oof_predictions.csv").read_bytes()
    assert main(command("--out", "mine")) == 0
    assert Path("mine/oof_predictions.csv").read_bytes() == written
    assert "mine was started with other settings" in told(command("--out", "mine", "--pca", "2"), capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learner", "logistic"], "learner logistic is for a classification, and this is a regression. Choose lightgbm"),
        (["--learner", "gp", "--seeds", "2"], "seeds is 2, but gp is the same with every seed"),
        (["--pca", "99"], "pca is 99"),
        (["--features", "predictions"], "--features predictions are those of a run. Leave --config out"),
        (["--features", "tabular"], "With --config there is no run to learn from: give --embeddings FILE"),
        (["--features", "tabular", "embeddings"], "These data have no tables to learn from"),
        (["--columns", "State"], "--columns chooses columns of tables"),
        (["--run", "lightning_logs"], "--run and --config both say"),
        (["--embeddings", "none.npz"], "Features file none.npz does not exist"),
        (["--name", "a/b"], "cannot name a run"),
        (["--negatives_per_positive", "2"], "negatives_per_positive is for classification"),
        (["--data.num_folds", "99"], "99 folds"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_wrong_requests_get_one_message_and_make_no_run(arguments, message, folder, capsys):
    assert message in told([*command(), *arguments], capsys)


def test_photos_without_features_are_counted_and_named(folder, capsys):
    with np.load("one.npz") as archive:
        np.savez("few.npz", image_id=archive["image_id"][4:], features=archive["features"][4:])
    error = told([*command(), "--embeddings", "few.npz"], capsys)
    assert "few.npz lacks 4 of 24 items: " in error and error.count("ID") == 3


def test_files_of_features_need_a_recipe(folder, capsys):
    assert "Add --config RECIPE" in told(["stack", "--embeddings", "one.npz"], capsys)


# Lesions: tables without a run


def test_tables_of_lesions_are_learned_from_without_a_run(lesion_recipe, workdir, capsys):
    arguments = ["stack", "--config", str(lesion_recipe), "--features", "tabular", "--learner", "logistic"]
    assert main([*arguments, "--out", "tabular"]) == 0
    table = pd.read_csv("tabular/oof_predictions.csv")
    assert table["target_pred"].between(0, 1).all() and table["target_pred"].nunique() > 50
    assert json.loads(Path("tabular/oof_metrics.json").read_text())["pooled"]["auc"] > 0.6
    capsys.readouterr()
    for wrong, message in (
        (["--learner", "gp"], "learner gp is for a regression, and this is a classification"),
        (["--target_transform", "sqrt"], "target_transform sqrt is for numbers"),
        (["--sums", "add"], "--sums is for targets that are sums of others"),
    ):
        assert message in told([*arguments, *wrong], capsys)


# Blends


def test_a_blend_tells_its_weights_and_its_gain(learned):
    metrics = json.loads((learned / BLEND / "oof_metrics.json").read_text())
    blend = metrics["blend"]
    names = [str(run) for run in RUNS]
    assert list(blend["weights"]) == names and sum(blend["weights"].values()) == pytest.approx(1)
    assert sorted(blend["fold_weights"]) == ["0", "1", "2"] and blend["best_run"] in names
    tables = [pd.read_csv(learned / run / "oof_predictions.csv") for run in (*RUNS, BLEND)]
    for fold, weights in blend["fold_weights"].items():
        rows = tables[0]["fold"] == int(fold)
        expected = sum(
            weight * table.loc[rows, PREDICTED] for weight, table in zip(weights.values(), tables, strict=False)
        )
        assert np.allclose(tables[2].loc[rows, PREDICTED], expected, atol=1e-6)
    scores = [score_table(table)["pooled"]["weighted_r2"] for table in tables]
    assert blend["score"] == "weighted_r2" and blend["gain"] == pytest.approx(scores[2] - max(scores[:2]), abs=1e-6)
    assert blend["gain_ci_lower"] <= blend["gain_mean"] <= blend["gain_ci_upper"]


def test_a_blend_is_printed_and_can_be_blended_again_with_a_stack_in_a_run(folder, capsys):
    assert main(["stack", "--run", str(RUNS[1]), "--learner", "ridge", "--features", "predictions"]) == 0
    capsys.readouterr()
    stacked = RUNS[1] / "stack_predictions"
    assert main(["stack", "--blend", str(BLEND), str(stacked), "--out", "again"]) == 0
    shown = capsys.readouterr().out
    assert f"in the folds): {BLEND}" in shown and f"in the folds): {stacked}" in shown
    assert "weighted_r2: " in shown and "over the best single run" in shown and "95 %" in shown
    assert find_run(Path("lightning_logs"), Path("again")).learner == "blend"


def changed(run: Path, column: str, row: int, value: float) -> None:
    table = pd.read_csv(run / "oof_predictions.csv")
    table[column] = table[column].astype(float if column != "fold" else int)
    table.loc[row, column] = value
    table.to_csv(run / "oof_predictions.csv", index=False)


def test_runs_of_other_folds_labels_or_photos_are_refused_by_the_first_that_differs(folder, capsys):
    together = ["stack", "--blend", *map(str, RUNS)]
    table = pd.read_csv(RUNS[1] / "oof_predictions.csv")
    name, fold, grams = table.loc[5, ["image_id", "fold", "GDM_g"]]
    changed(RUNS[1], "GDM_g", 5, grams + 3)
    assert f"GDM_g of photo {name} is {grams:g} in {RUNS[0]} and {grams + 3:g} in {RUNS[1]}" in told(together, capsys)
    changed(RUNS[1], "fold", 5, (fold + 1) % 3)
    assert f"fold of photo {name} is {fold} in {RUNS[0]} and {(fold + 1) % 3}" in told(together, capsys)
    table.drop(index=5).to_csv(RUNS[1] / "oof_predictions.csv", index=False)
    assert f"{RUNS[0]} predicts photo {name}, and {RUNS[1]} does not" in told(together, capsys)
    table.drop(columns="GDM_g_pred").to_csv(RUNS[1] / "oof_predictions.csv", index=False)
    assert f"{RUNS[1]} predicts no GDM_g_pred" in told(together, capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--blend", str(RUNS[0])], "--blend needs two or more runs, each once"),
        (["--blend", str(RUNS[0]), str(RUNS[0])], "--blend needs two or more runs, each once"),
        (["--blend", *map(str, RUNS), "--learner", "gp"], "--blend weighs runs as they are and takes no --learner"),
        (["--blend", *map(str, RUNS), "--config", "small.yaml"], "Leave --config out"),
        (["--blend", str(RUNS[0]), "data"], "oof_predictions.csv is not there or damaged"),
        (["--blend", "data", str(RUNS[0])], "data is not a run folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_blends_get_one_message(arguments, message, folder, capsys):
    assert message in told(["stack", *arguments], capsys)
