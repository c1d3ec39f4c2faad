"""Training from features instead of pixels: the same numbers, computed once, and really read."""

import shutil
import zlib
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from biomass_pl.cli import main
from biomass_pl.data.augmentation import FLIPS
from biomass_pl.data.bank import photo_key
from biomass_pl.data.splits import Split
from biomass_pl.data.stored_features import StoredFeatures
from biomass_pl.errors import DataError
from biomass_pl.pasture.data import PastureDataModule
from biomass_pl.pasture.task import HierarchicalRatio
from biomass_pl.runs import find_run
from biomass_pl.training.callbacks.feature_bank import FeatureBankFill, stored_predictions
from biomass_pl.training.callbacks.freeze import BackboneFreeze
from biomass_pl.training.optim import FrozenEpochs, OptimConfig

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


class Watch(pl.Callback):
    """Notes what the batches of each epoch are made of, and the backbone after it."""

    def __init__(self) -> None:
        self.batches: dict[int, list[str]] = {}
        self.backbones: list[str] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.note(trainer, batch)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        self.note(trainer, batch)

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.backbones.append(pl_module.backbone.fingerprint())

    def note(self, trainer, batch) -> None:
        (kind,) = {"features", "tiles"} & batch.keys()
        self.batches.setdefault(trainer.current_epoch, []).append(kind)

    def kinds(self) -> dict[int, set[str]]:
        return {epoch: set(kinds) for epoch, kinds in self.batches.items()}


class LosePhotos(pl.Callback):
    """Deletes the photos once the bank is full: what is read from then on cannot be pixels."""

    def on_fit_start(self, trainer, pl_module) -> None:
        for photo in (trainer.datamodule.root / "train").iterdir():
            photo.unlink()


def fold_data(root: Path, bank: Path, *, first_epoch: int = 0, **settings) -> PastureDataModule:
    small = {"num_folds": 3, "tile_size": 32, "batch_size": 6, "num_workers": 0, "bank_views": VIEWS, "bank_dir": bank}
    data = PastureDataModule(root=root, **{**small, **settings})
    data.use(Split(fold=0, folds=data.make_folds()), first_epoch=first_epoch)
    return data


def new_trainer(folder: Path, *callbacks: pl.Callback, epochs: int = 1, precision: str = "32-true") -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        precision=precision,
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )


def train(
    data: PastureDataModule,
    *callbacks: pl.Callback,
    frozen: FrozenEpochs,
    epochs: int,
    precision: str = "32-true",
    **rates: float,
) -> tuple[HierarchicalRatio, pl.Trainer]:
    pl.seed_everything(0, verbose=False)
    optim = OptimConfig(warmup_epochs=0, **rates)
    task = HierarchicalRatio(backbone="test_vit.r160_in1k", pretrained=False, tile_size=data.tile_size, optim=optim)
    trainer = new_trainer(
        data.root.parent,
        BackboneFreeze(epochs=frozen),
        FeatureBankFill(),
        *callbacks,
        epochs=epochs,
        precision=precision,
    )
    trainer.fit(task, data)
    return task, trainer


WORKERS = pytest.mark.parametrize("num_workers", [0, 2])


@WORKERS
def test_frozen_epochs_read_features_and_later_ones_pixels(num_workers, rendered, tmp_path):
    watch = Watch()
    train(fold_data(rendered, tmp_path / "bank", num_workers=num_workers), watch, frozen=2, epochs=3)
    assert watch.kinds() == {0: {"features"}, 1: {"features"}, 2: {"tiles"}}
    assert watch.backbones[0] == watch.backbones[1] != watch.backbones[2]


@WORKERS
def test_no_photo_is_opened_until_the_backbone_thaws(num_workers, data, tmp_path):
    watch, module = Watch(), fold_data(data, tmp_path / "bank", num_workers=num_workers)
    with pytest.raises(DataError, match="the file does not exist"):
        train(module, LosePhotos(), watch, frozen=2, epochs=3)
    assert watch.kinds() == {0: {"features"}, 1: {"features"}}
    assert (
        len(watch.batches[0]) == len(watch.batches[1]) == len(module.train_dataloader()) + len(module.val_dataloader())
    )


def test_a_training_of_the_head_alone_opens_no_photo(data, tmp_path):
    watch = Watch()
    train(fold_data(data, tmp_path / "bank", num_workers=2), LosePhotos(), watch, frozen="all", epochs=2)
    assert watch.kinds() == {0: {"features"}, 1: {"features"}}


@pytest.mark.parametrize(("first_epoch", "filled"), [(1, True), (2, False), (3, False)])
def test_a_training_that_goes_on_needs_the_bank_in_its_frozen_epochs_alone(first_epoch, filled, rendered, tmp_path):
    data = fold_data(rendered, tmp_path / "bank", first_epoch=first_epoch)
    task = HierarchicalRatio(backbone="test_vit.r160_in1k", pretrained=False, tile_size=32)
    task.configure_model()
    task.frozen_epochs = 2
    trainer = new_trainer(tmp_path)
    trainer._data_connector.attach_data(task, datamodule=data)
    FeatureBankFill().on_fit_start(trainer, task)
    assert (data.features is not None) == (tmp_path / "bank").exists() == filled
    if filled:
        assert [data.features.serve(epoch) for epoch in (1, 2)] == [True, False]


def test_validation_and_prediction_from_features_are_those_from_pixels(rendered, tmp_path):
    """Nothing learns here, so that the training views do not matter."""
    still = {"frozen": "all", "epochs": 1, "head_lr_frozen": 0.0}
    found = []
    for views, expected in ((VIEWS, "features"), (0, "tiles")):
        watch, data = Watch(), fold_data(rendered, tmp_path / "bank", bank_views=views)
        task, trainer = train(data, watch, **still)
        scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        assert watch.kinds() == {0: {expected}} and len(scores) > 3
        data.select("held_out")
        if views:
            data.use_features(stored_predictions(task, data, data.bank, str(trainer.precision)))
            assert {"features"} < next(iter(data.predict_dataloader())).keys()
        outputs = new_trainer(tmp_path).predict(task, data)
        found.append((scores, torch.cat([torch.stack(list(output.columns.values())) for output in outputs], dim=1)))
    (scores, grams), (scores_of_pixels, grams_of_pixels) = found
    # Other batch sizes add up floats in another order.
    assert scores == pytest.approx(scores_of_pixels, rel=1e-4)
    torch.testing.assert_close(grams, grams_of_pixels, rtol=1e-4, atol=1e-4)


def test_what_the_bank_does_not_hold_is_predicted_from_pixels(rendered, tmp_path):
    data = fold_data(rendered, tmp_path / "bank")
    task, trainer = train(data, frozen="all", epochs=1)
    precision = str(trainer.precision)
    data.use(data.split)
    for source, views, held in (
        ("held_out", ("plain",), True),
        ("held_out", FLIPS, False),
        ("test", ("plain",), False),
        ("held_out", ("plain",), True),
    ):
        data.select(source, views=views)
        assert (stored_predictions(task, data, data.bank, precision) is not None) == held
        assert stored_predictions(task, data, data.bank, "16-mixed") is None
    with torch.no_grad():
        next(task.backbone.parameters()).add_(1)
    assert stored_predictions(task, data, data.bank, precision) is None


def test_a_changed_photo_transform_or_precision_gets_features_of_its_own(data, tmp_path):
    bank = tmp_path / "bank"

    def fill(precision="32-true", **settings) -> int:
        """Number of feature sets after a training."""
        train(fold_data(data, bank, **settings), precision=precision, frozen="all", epochs=1)
        return len(list(bank.iterdir()))

    assert fill() == 1
    before = entries(bank)
    photo = next((data / "train").glob("*.jpg"))
    Image.fromarray(255 - np.asarray(Image.open(photo))).save(photo)
    assert fill() == 1
    assert before.items() <= entries(bank).items()
    assert 1 <= len(entries(bank)) - len(before) <= 1 + VIEWS
    assert fill(aug_prob=0.3) == 2
    assert fill(tile_size=48) == 3
    assert fill(precision="bf16-mixed") == 4
    filled = entries(bank)
    assert fill(batch_size=4, bank_views=1, seed=7) == 4  # of which nothing depends on these
    assert filled.items() <= entries(bank).items()


def test_other_rates_find_all_features_there(rendered, tmp_path):
    scores = []
    for rate in (1e-3, 1e-2):
        _, trainer = train(fold_data(rendered, tmp_path / "bank"), frozen="all", epochs=1, head_lr_frozen=rate)
        scores.append((float(trainer.callback_metrics["val/loss"]), entries(tmp_path / "bank")))
    (first, filled), (second, later) = scores
    assert filled and later == filled and first != second


def test_a_broken_fill_goes_on_and_damage_is_mended(rendered, tmp_path):
    bank = tmp_path / "bank"

    def scores() -> dict[str, float]:
        _, trainer = train(fold_data(rendered, bank), frozen="all", epochs=1)
        return {name: float(value) for name, value in trainer.callback_metrics.items()}

    first, whole = scores(), entries(bank)
    paths = sorted(bank.rglob("*.features"))
    for path in paths[:7]:
        path.unlink()
    paths[7].write_bytes(paths[7].read_bytes()[:-9] + bytes(9))
    assert scores() == first
    mended = entries(bank)
    assert mended.keys() == whole.keys()
    assert sum(mended[name] != whole[name] for name in whole) <= 8


def test_without_a_bank_nothing_is_written(rendered, tmp_path):
    watch = Watch()
    train(fold_data(rendered, tmp_path / "bank", bank_views=0), watch, frozen="all", epochs=1)
    assert watch.kinds() == {0: {"tiles"}} and not (tmp_path / "bank").exists()


@pytest.fixture
def constants(rendered, tmp_path):
    """Data and features of which each is the number of its view."""
    data = fold_data(rendered, tmp_path / "bank", num_workers=2, batch_size=5)
    wanted = data.wanted_views(training=True)
    keys = {path: photo_key(path) for path in wanted}
    feature_set = data.bank.bank.feature_set({}, (*data.view_shape(), 5))
    for path, views in wanted.items():
        for view in views:
            feature_set.write(keys[path], view, np.full((2, 4, 5), view, dtype=np.float32))

    def stored(epochs: float) -> StoredFeatures:
        return StoredFeatures(feature_set=feature_set, keys=keys, views=data.bank.views, epochs=epochs)

    return data, stored


@WORKERS
def test_an_item_is_features_as_long_as_the_backbone_is_frozen(num_workers, constants):
    data, stored = constants
    data.num_workers = num_workers
    data.use_features(stored(epochs=2))
    training, held_out = data.train_dataloader(), data.val_dataloader()
    assert training.num_workers == held_out.num_workers == num_workers and training.batch_size == held_out.batch_size
    drawn = []
    for epoch in (0, 1):
        training.sampler.set_epoch(epoch), held_out.sampler.set_epoch(epoch)
        batches = list(training)
        views = {
            image_id: float(item.max()) for b in batches for image_id, item in zip(b["id"], b["features"], strict=True)
        }
        assert set(views.values()) == {0.0, 1.0, 2.0} and len(views) == data.split.training_count
        drawn.append(views)
        assert all((batch["features"] == 0).all() for batch in held_out)
    assert drawn[0] != drawn[1]
    for loader in (training, held_out):
        loader.sampler.set_epoch(2)
        for batch in loader:
            assert batch["tiles"].shape[1:] == (2, 4, 3, 32, 32) and "features" not in batch


@WORKERS
def test_a_training_that_goes_on_draws_the_views_of_its_epoch(num_workers, constants):
    """Also in its first pass, which nobody tells the epoch of."""
    data, stored = constants
    data.num_workers = num_workers

    def passes(first_epoch: int) -> list[list[float]]:
        data.use(data.split, first_epoch=first_epoch)
        data.use_features(stored(epochs=4))
        loader = data.train_dataloader()
        found = []
        for epoch in range(first_epoch, 4):
            if epoch > first_epoch:
                loader.sampler.set_epoch(epoch)
            found.append([(batch["id"], batch["features"].tolist()) for batch in loader])
        return found

    assert passes(2) == passes(0)[2:]


def test_features_alone_need_no_workers_and_fill_larger_batches(constants):
    data, stored = constants
    data.use_features(stored(epochs=float("inf")))
    assert data.train_dataloader().num_workers == data.val_dataloader().num_workers == 0
    assert data.train_dataloader().batch_size == data.batch_size < data.val_dataloader().batch_size
    data.use_features(None)
    data.select("held_out")
    predicted = data.predict_dataloader()
    assert (predicted.num_workers, predicted.batch_size) == (2, data.batch_size)
    data.use_features(stored(epochs=float("inf")))
    data.use(data.split)  # forgets them
    assert "tiles" in next(iter(data.val_dataloader()))


@pytest.mark.parametrize(("megabytes", "together"), [(1, 96), (8, 31), (100, 6)])
def test_large_features_are_validated_in_smaller_batches(megabytes, together, rendered, tmp_path):
    data = fold_data(rendered, tmp_path)
    feature_set = data.bank.bank.feature_set({}, (megabytes, 2**18))
    data.use_features(StoredFeatures(feature_set=feature_set, keys={}, views=0, epochs=float("inf")))
    assert data.val_dataloader().batch_size == together and data.train_dataloader().batch_size == 6


@pytest.fixture
def fit(workdir, data):
    """Runs the head-only recipe, with other settings, in an empty folder with photos of its own."""
    shutil.move(data, workdir / "data")

    def run(*arguments, epochs="all"):
        (workdir / "small.yaml").write_text(RECIPE.replace("EPOCHS", str(epochs)))
        code = main(["fit", "--config", "small.yaml", *arguments])
        return find_run(workdir / "lightning_logs") if code == 0 else code

    return run


def entries(bank: Path = BANK) -> dict[str, int]:
    """Each entry's file, told apart by its place on the disk: a rewritten entry has another."""
    return {path.name: path.stat().st_ino for path in bank.rglob("*.features")}


def validation(run, fold=0):
    table = pd.read_csv(run.metrics_csv(fold))
    return table[[name for name in table if name.startswith("val/")]]


def test_every_feature_is_computed_once_for_all_folds_and_later_runs(fit):
    first = fit()
    photos = len(pd.read_csv(first.oof_predictions))
    filled = entries()
    assert len(filled) == photos * (1 + VIEWS)
    second = fit("--folds", "1")
    assert entries() == filled
    assert second.oof_csv(1).read_bytes() == first.oof_csv(1).read_bytes()


def spoil() -> None:
    """Other features in place of those that are there, none of them damaged."""
    for path in BANK.rglob("*.features"):
        payload = bytes(path.stat().st_size - 4)
        path.write_bytes(payload + zlib.crc32(payload).to_bytes(4, "little"))


def predicted(name: str, *arguments: str) -> bytes:
    assert main(["predict", "--folds", "0", "--out", name, *arguments]) == 0
    return Path(name).read_bytes()


def test_training_and_prediction_read_what_the_bank_holds_and_other_views_and_photos_do_not(fit):
    first = fit("--folds", "0")
    filled = entries()
    others = [("flipped.csv", "--tta"), ("images.csv", "--images", "data/test")]
    tables = [predicted(*arguments) for arguments in others]
    assert predicted("again.csv") == first.oof_predictions.read_bytes() != tables[0]
    assert entries() == filled
    spoil()
    assert predicted("spoilt.csv") != first.oof_predictions.read_bytes()
    assert [predicted(*arguments) for arguments in others] == tables
    second = fit("--folds", "0", "--oof", "false")
    assert not np.allclose(validation(second), validation(first))


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


def test_the_bank_command_shows_and_prunes(rendered, workdir, capsys):
    train(fold_data(rendered, workdir / BANK), frozen="all", epochs=1)
    capsys.readouterr()
    assert main(["bank"]) == 0
    shown = capsys.readouterr().out
    assert "test_vit.r160_in1k" in shown and str(len(entries())) in shown
    assert main(["bank", "--prune", "0"]) == 0
    assert not entries()
    assert "holds no features" in capsys.readouterr().out
    assert main(["bank", "--prune", "-1"]) == 2
    assert main(["bank", "--dir", "nowhere"]) == 0
