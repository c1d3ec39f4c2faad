"""Where a run may start from another one: the same items in the same folds, a finished fold, an encoder."""

import shutil

import pandas as pd
import pytest
import torch

from biomass_pl.errors import FoldError, RunError
from biomass_pl.training.initial_weights import check_origin, initial_encoder
from tests.conftest import make_run

FOLDS = pd.Series([0, 1, 0, 1, -1], index=["007", "b", "c", "d", "e"], name="fold")


@pytest.fixture
def origin(tmp_path):
    """A run with these folds, of which the first is finished."""
    run = make_run(tmp_path / "lightning_logs")
    FOLDS.rename_axis("image_id").reset_index().to_csv(run.folds_csv, index=False)
    run.finish_fold(0, {"best_epoch": 3})
    return run


def test_the_same_folds_in_any_order_are_welcome(origin):
    check_origin(origin.path, 0, FOLDS)
    check_origin(origin.path, 0, FOLDS.iloc[::-1])


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"model\.init_from: .* is not a run folder"):
        check_origin(tmp_path, 0, FOLDS)


@pytest.mark.parametrize("fold", [1, 2])
def test_a_fold_that_is_not_finished_there_is_refused(fold, origin):
    with pytest.raises(RunError, match=f"fold {fold} of .* is not finished.*biomass fit --resume"):
        check_origin(origin.path, fold, FOLDS)


@pytest.mark.parametrize(
    "folds",
    [FOLDS.drop("c"), pd.concat([FOLDS, pd.Series({"f": 1})]), FOLDS.rename({"c": "x"})],
    ids=["fewer", "more", "renamed"],
)
def test_other_items_are_refused(folds, origin):
    with pytest.raises(FoldError, match=r"was trained on other items, such as [cfx]"):
        check_origin(origin.path, 0, folds)


@pytest.mark.parametrize(("name", "fold"), [("007", 1), ("e", 0), ("d", -1)])
def test_other_folds_are_refused(name, fold, origin):
    """Also where it is another fold than the one that starts, and where an item is never held out in one of them."""
    moved = FOLDS.copy()
    moved[name] = fold
    with pytest.raises(FoldError, match=f"has other folds, such as {FOLDS[name]} for {name}, which is in fold {fold}"):
        check_origin(origin.path, 0, moved)


@pytest.mark.parametrize("content", ["", "image_id\na\n", "image_id,fold\na,first\n", "image_id,fold\na,0\na,1\n"])
def test_a_damaged_table_of_folds_is_refused(content, origin):
    origin.folds_csv.write_text(content)
    with pytest.raises(RunError, match=r"folds\.csv (is not there or damaged|names an item twice)"):
        check_origin(origin.path, 0, FOLDS)


def test_the_encoder_is_that_of_the_best_checkpoint(lesion_run):
    state = torch.load(lesion_run.best_checkpoint(1), weights_only=True)["state_dict"]
    encoder = initial_encoder(lesion_run.path, 1)
    names = [name for name in state if ".backbone." in name]
    assert len(encoder) == len(names) > 10
    assert all(torch.equal(encoder[name.removeprefix("network.backbone.network.")], state[name]) for name in names)
    other = initial_encoder(lesion_run.path, 0)
    assert any(not torch.equal(encoder[name], other[name]) for name in other)


def test_a_checkpoint_without_a_backbone_is_refused(lesion_run, tmp_path):
    shutil.copytree(lesion_run.path, tmp_path / "run")
    path = tmp_path / "run" / "fold_0" / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    torch.save({**checkpoint, "state_dict": {"weight": torch.zeros(1)}}, path)
    with pytest.raises(RunError, match="holds no backbone"):
        initial_encoder(tmp_path / "run", 0)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(RunError, match="is no checkpoint"):
        initial_encoder(tmp_path / "run", 0)
