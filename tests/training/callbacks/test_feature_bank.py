"""Training from features instead of pixels: the same numbers, computed once."""

import shutil
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from biomass_pl.cli import main
from biomass_pl.data.bank import photo_key
from biomass_pl.data.splits import Split
from biomass_pl.pasture.data import PastureDataModule
from biomass_pl.runs import find_run

VIEWS = 2
RECIPE = """\
trainer:
  max_epochs: 2
  callbacks:
    - class_path: BackboneFreeze
      init_args: {epochs: EPOCHS}
model:
  class_path: HierarchicalRatio
  init_args:
    backbone: test_vit.r160_in1k
    pretrained: false
    optim: {warmup_epochs: 0, head_lr_frozen: 1.0e-3, backbone_lr: 1.0e-4}
data:
  class_path: PastureDataModule
  init_args: {root: data, num_folds: 3, tile_size: 32, num_workers: 0, bank_views: 2}
"""
BANK = Path("lightning_logs/feature_bank")


@pytest.fixture
def fit(workdir, data):
    """Runs the head-only recipe, with other settings, in an empty folder with photos of its own."""
    shutil.move(data, workdir / "data")

    def run(*arguments, epochs="all"):
        (workdir / "small.yaml").write_text(RECIPE.replace("EPOCHS", str(epochs)))
        code = main(["fit", "--config", "small.yaml", *arguments])
        return find_run(workdir / "lightning_logs") if code == 0 else code

    return run


def entries():
    """Each entry's file, told apart by its place on the disk: a rewritten entry has another."""
    return {path.name: path.stat().st_ino for path in BANK.rglob("*.features")}


def validation(run, fold=0):
    table = pd.read_csv(run.metrics_csv(fold))
    return table[[name for name in table if name.startswith("val/")]]


def test_every_feature_is_computed_once_for_all_folds_and_later_runs(fit):
    first = fit()
    photos = len(pd.read_csv(first.oof_predictions))
    filled = entries()
    assert len(filled) == photos * (1 + VIEWS)
    second = fit()
    assert entries() == filled
    assert second.oof_predictions.read_bytes() == first.oof_predictions.read_bytes()
    fit("--model.optim.head_lr_frozen", "1e-2", "--seed_everything", "42")
    assert entries() == filled


def test_validation_from_features_is_that_from_pixels(fit):
    """Nothing learns here, so that the training views do not matter."""
    still = ("--folds", "0", "--model.optim.head_lr_frozen", "0")
    banked, pixels = fit(*still), fit(*still, "--data.bank_views", "0")
    assert entries()
    # Other batch sizes add up floats in another order.
    np.testing.assert_allclose(validation(banked), validation(pixels), rtol=1e-4)
    tables = [pd.read_csv(run.oof_predictions).filter(like="_pred") for run in (banked, pixels)]
    np.testing.assert_allclose(*tables, rtol=1e-4)


def test_training_and_prediction_read_what_the_bank_holds(fit):
    """Other features in it, other numbers out of it."""
    first = fit("--folds", "0")
    expected = first.oof_predictions.read_bytes()
    for path in BANK.rglob("*.features"):
        payload = bytes(path.stat().st_size - 4)
        path.write_bytes(payload + zlib.crc32(payload).to_bytes(4, "little"))
    assert main(["predict", "--folds", "0", "--out", "spoilt.csv"]) == 0
    assert Path("spoilt.csv").read_bytes() != expected
    second = fit("--folds", "0", "--oof", "false")
    assert not np.allclose(validation(second), validation(first))


def test_a_changed_photo_transform_or_network_gets_features_of_its_own(fit):
    one_fold = ("--folds", "0")
    fit(*one_fold)
    before = entries()
    photo = next(Path("data/train").glob("*.jpg"))
    Image.fromarray(255 - np.asarray(Image.open(photo))).save(photo)
    fit(*one_fold)
    assert before.items() <= entries().items()
    assert 1 <= len(entries()) - len(before) <= 1 + VIEWS
    for change in (("--data.aug_prob", "0.3"), ("--data.tile_size", "48"), ("--trainer.precision", "bf16-mixed")):
        folders = len(list(BANK.iterdir()))
        fit(*one_fold, *change)
        assert len(list(BANK.iterdir())) == folders + 1, change


def test_a_broken_fill_goes_on_and_damage_is_mended(fit):
    first = fit("--folds", "0")
    whole = entries()
    paths = sorted(BANK.rglob("*.features"))
    for path in paths[:7]:
        path.unlink()
    paths[7].write_bytes(paths[7].read_bytes()[:-9] + bytes(9))
    second = fit("--folds", "0")
    mended = entries()
    assert mended.keys() == whole.keys()
    assert sum(mended[name] != whole[name] for name in whole) <= 8
    assert second.oof_csv(0).read_bytes() == first.oof_csv(0).read_bytes()


def test_two_stages_read_features_and_then_pixels(fit):
    run = fit("--folds", "0", epochs=1)
    weights = torch.load(run.last_checkpoint(0), weights_only=True)["state_dict"]
    start = torch.load(fit("--folds", "0").last_checkpoint(0), weights_only=True)["state_dict"]
    moved = [name for name, value in weights.items() if not torch.equal(value, start[name])]
    assert any(name.startswith("network.backbone") for name in moved)
    assert len(pd.read_csv(run.metrics_csv(0))) == 2


def test_an_item_is_features_as_long_as_the_backbone_is_frozen(rendered, tmp_path):
    data = PastureDataModule(
        root=rendered, num_folds=3, tile_size=32, num_workers=2, bank_views=VIEWS, bank_dir=tmp_path / "bank"
    )
    data.use(Split(fold=0, folds=data.make_folds()))
    banked = data.banked
    banked.epochs = 1
    wanted = data.wanted_views(training=True)
    banked.keys = {path: photo_key(path) for path in wanted}
    banked.shelf = banked.bank.shelf({}, (*data.view_shape(), 5))
    for path, views in wanted.items():
        for view in views:
            banked.shelf.write(banked.keys[path], view, np.full((2, 4, 5), view, dtype=np.float32))
    training, held_out = data.train_dataloader(), data.val_dataloader()
    assert training.num_workers == 2
    drawn = {float(training.dataset[index, 0]["features"][0, 0, 0]) for index in range(len(training.dataset))}
    assert drawn <= {0.0, 1.0, 2.0} and len(drawn) > 1
    assert {float(held_out.dataset[index, 0]["features"].max()) for index in range(len(held_out.dataset))} == {0.0}
    for dataset in (training.dataset, held_out.dataset):
        assert dataset[0, 1]["tiles"].shape == (2, 4, 3, 32, 32) and "features" not in dataset[0, 1]
    banked.epochs = float("inf")
    assert data.train_dataloader().num_workers == 0
    assert data.val_dataloader().batch_size > data.batch_size
    # What is predicted may be pixels.
    data.select("held_out")
    predicted = data.predict_dataloader()
    assert (predicted.num_workers, predicted.batch_size) == (2, data.batch_size)


def test_without_a_bank_nothing_is_written(fit):
    fit("--folds", "0", "--data.bank_views", "0")
    assert not BANK.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data.mixup_prob", "0.5"), "data.mixup_prob"),
        (("--trainer.callbacks", "null"), "BackboneFreeze"),
        (("--data.bank_limit_gb", "1e-6"), "bank_limit_gb"),
        (("--data.bank_limit_gb", "0"), "bank_limit_gb"),
        (("--data.bank_views", "-1"), "bank_views"),
    ],
)
def test_a_bank_that_cannot_work_is_refused_before_training(fit, arguments, message, capsys):
    assert fit(*arguments) == 2
    assert message in capsys.readouterr().err
    assert not Path("lightning_logs").exists()


def test_predicting_again_reads_the_bank_and_other_photos_do_not_need_it(fit, capsys):
    run = fit("--folds", "0")
    expected = run.oof_predictions.read_bytes()
    filled = entries()
    assert main(["predict", "--folds", "0", "--out", "again.csv"]) == 0
    assert Path("again.csv").read_bytes() == expected
    assert main(["predict", "--folds", "0", "--tta", "--out", "flipped.csv"]) == 0
    assert Path("flipped.csv").read_bytes() != expected
    assert main(["predict", "--folds", "0", "--images", "data/test", "--out", "images.csv"]) == 0
    assert entries() == filled


def test_the_bank_command_shows_and_prunes(fit, capsys):
    fit("--folds", "0")
    capsys.readouterr()
    assert main(["bank"]) == 0
    shown = capsys.readouterr().out
    assert "test_vit.r160_in1k" in shown and str(len(entries())) in shown
    assert main(["bank", "--prune", "0"]) == 0
    assert not entries()
    assert "holds no features" in capsys.readouterr().out
    assert main(["bank", "--prune", "-1"]) == 2
    assert main(["bank", "--dir", "nowhere"]) == 0
