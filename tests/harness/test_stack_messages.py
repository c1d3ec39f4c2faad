"""What `biomass stack` refuses: one message, nothing written."""

import hashlib
import shutil
from pathlib import Path

import pandas as pd
import pytest

from biomass_pl.cli import main
from biomass_pl.evaluation.embeddings import Embeddings
from biomass_pl.runs import Run
from tests.conftest import in_workdir

pytest.importorskip("lightgbm")


def digests(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def refused(run: Run, arguments: list[str], capsys) -> str:
    """The one message of a command that must end with an error and write nothing."""
    before = digests(Path())
    capsys.readouterr()
    assert main(["stack", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("biomass: error:") == 1 and "Traceback" not in error
    assert digests(Path()) == before
    return error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--columns", "iddx_1"], "'iddx_1' is known in training only and gives the answer away"),
        (["--columns", "tbp_lv_H", "mel_thick_mm"], "'mel_thick_mm' is known in training only"),
        (["--columns", "tbp_lv_X"], "No feature is made of a column 'tbp_lv_X'"),
        (["--features", "pixels"], "invalid choice: 'pixels'"),
        (["--learner", "forest"], "invalid choice: 'forest'"),
        (["--seeds", "0"], "seeds is 0; give 1 or more"),
        (["--pca", "0"], "pca is 0; give 1 or more"),
        (["--negatives_per_positive", "0"], "negatives_per_positive is 0.0; give more than 0"),
        (["--pca", "4"], "have no embeddings"),
        (["--features", "embeddings", "--pca", "99"], "give 64 or less"),
        (["--negatives_per_positive", "inf"], "negatives_per_positive is inf; give more than 0"),
        (["--config", "other.yaml"], "Leave --config out"),
        (["--config=other.yaml"], "Leave --config out"),
        (["-c", "other.yaml"], "Leave --config out"),
        (["--run", "nowhere"], "nowhere does not exist"),
        (["--data.root", "nowhere"], "Say where they are now: --data.root DIR"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_requests_get_one_message_and_write_nothing(arguments, message, lesion_copy, capsys):
    assert message in refused(lesion_copy, arguments, capsys)


def test_a_run_without_predictions_says_how_to_make_them(lesion_copy, capsys):
    lesion_copy.oof_predictions.unlink()
    error = refused(lesion_copy, [], capsys)
    assert f"oof_predictions.csv is not there or damaged. Make it: biomass predict --run {lesion_copy.path}" in error


@pytest.mark.parametrize(("split", "command"), [("oof", "biomass predict"), ("test", "biomass predict --split test")])
def test_missing_embeddings_say_how_to_make_them(split, command, lesion_copy, capsys):
    (lesion_copy.path / f"{split}_embeddings.npz").unlink()
    error = refused(lesion_copy, ["--features", "embeddings"], capsys)
    assert f"{split}_embeddings.npz does not exist" in error and command in error


def test_tables_are_refused_for_a_pasture(run, workdir, capsys):
    run = in_workdir(run, workdir)
    assert "Leave 'tabular' out of --features" in refused(run, ["--features", "tabular"], capsys)
    assert "--columns chooses columns of tables" in refused(run, ["--columns", "State"], capsys)


def test_folds_that_leave_one_class_to_learn_from_are_refused(lesion_copy, capsys):
    table = pd.read_csv(lesion_copy.oof_predictions)
    table.loc[table["fold"] != 0, "target"] = 0
    table.to_csv(lesion_copy.oof_predictions, index=False)
    assert "rows outside fold 0 hold one class of target only" in refused(lesion_copy, [], capsys)


def test_photos_that_the_embeddings_lack_are_named(lesion_copy, capsys):
    path = lesion_copy.path / "oof_embeddings.npz"
    found = Embeddings.read(path)
    Embeddings(ids=found.ids[1:], arrays={"embedding": found.arrays["embedding"][1:]}).write(path)
    error = refused(lesion_copy, ["--features", "embeddings"], capsys)
    assert f"1 photo(s) have no embedding, the first is {found.ids[0]}" in error


def test_a_sample_submission_of_other_photos_is_refused_before_anything_is_written(
    lesion_copy, lesion_data, tmp_path, capsys
):
    root = Path(shutil.copytree(lesion_data, tmp_path / "other"))
    (root / "sample_submission.csv").write_text("isic_id,target\nISIC_0000000,0.3\n")
    config = lesion_copy.config(0)
    config.write_text(config.read_text().replace(str(lesion_data), str(root)))
    assert "name different rows" in refused(
        lesion_copy, ["--seeds", "1", "--features", "embeddings", "--pca", "4"], capsys
    )


def test_help_lists_the_options(capsys):
    assert main(["stack", "--help"]) == 0
    text = capsys.readouterr().out
    for option in (
        "--features",
        "--columns",
        "--learner",
        "--embeddings",
        "--blend",
        "--target_transform",
        "--seeds",
        "--pca",
        "--negatives_per_positive",
        "--out",
    ):
        assert option in text


def test_the_runs_own_folder_is_no_place_for_a_stack(lesion_copy, capsys):
    before = lesion_copy.oof_predictions.read_bytes()
    assert "holds the run's own predictions" in refused(lesion_copy, ["--out", str(lesion_copy.path)], capsys)
    assert lesion_copy.oof_predictions.read_bytes() == before
