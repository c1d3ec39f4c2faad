"""Training of the leaf classifier, seen from the batch to the logged score."""

import logging
import math
import shutil
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from biomass_pl.errors import ConfigError, RunError
from biomass_pl.leaf import task as task_module
from biomass_pl.leaf.losses import ClassLoss, CombinedLoss, CrossEntropyLoss, FocalLoss
from biomass_pl.leaf.task import LeafClassifier
from biomass_pl.training.batch_mixing import BatchMixing
from biomass_pl.training.optim import OptimConfig
from biomass_pl.training.task import StepOutput
from tests.leaf.conftest import CLASSES, leaf_module, save, write_classes

TINY = {
    "backbone": "hvit_tiny",
    "backbone_args": {"embed_dim": 12, "depths": [1, 1], "num_heads": [1, 2]},
    "pretrained": False,
    "tile_size": 32,
    "optim": OptimConfig(head_lr=1e-2, backbone_lr=1e-3, warmup_epochs=0),
}


def unbuilt(kind: type[LeafClassifier] = LeafClassifier, **settings) -> LeafClassifier:
    """A task before its training."""
    pl.seed_everything(0, verbose=False)
    return kind(**{**TINY, **settings})


def made(**settings) -> LeafClassifier:
    """A task for the three classes, its network built."""
    task = unbuilt(**settings)
    task.on_load_checkpoint({"classes": list(CLASSES)})
    return task


def batch_of(*targets: int, bands: int = 0) -> dict:
    """Photos of even colours, 10 and 20 and so on, so that it shows whose pixel a mixed one is."""
    colours = 10 * torch.arange(1, len(targets) + 1, dtype=torch.uint8).view(-1, 1, 1, 1)
    batch = {
        "id": [f"{number}.png" for number in range(len(targets))],
        "tiles": colours.expand(-1, 3, 32, 32).contiguous(),
        "target": torch.tensor(targets),
    }
    return batch | ({"bands": colours.float().expand(-1, bands, 32, 32).contiguous()} if bands else {})


def trainer(folder: Path, **settings) -> pl.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return pl.Trainer(
        **{"max_epochs": 1, "logger": False, "default_root_dir": folder, "num_sanity_val_steps": 0, **quiet, **settings}
    )


def fitted(task: LeafClassifier, data, folder: Path) -> dict[str, float]:
    """What an epoch of training logs at its end."""
    fit = trainer(folder)
    fit.fit(task, data)
    return {name: float(value) for name, value in fit.callback_metrics.items()}


def own_messages(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("biomass_pl")]


# One batch, by hand


@pytest.fixture
def certain() -> LeafClassifier:
    """Gives every photo the probabilities 1/2, 1/4 and 1/4."""
    task = made(loss=CrossEntropyLoss()).eval()
    with torch.no_grad():
        task.network.head[1].weight.zero_()
        task.network.head[1].bias.copy_(torch.tensor([0.5, 0.25, 0.25]).log())
    return task


def test_a_step_gives_loss_logits_and_which_photos_are_right(certain):
    output = certain.step(batch_of(0, 1, 2, 0))
    assert list(output.losses) == ["classification"]
    assert output.losses["classification"].item() == pytest.approx(1.5 * math.log(2), abs=1e-6)
    assert output.outputs["prediction"].softmax(dim=1).tolist()[3] == pytest.approx([0.5, 0.25, 0.25])
    assert output.measures["accuracy"].tolist() == [1, 0, 0, 1]


def test_the_scores_of_an_epoch_by_hand(certain):
    batch = batch_of(0, 1, 2, 0)
    kept = certain.keep(certain.step(batch), batch)
    assert certain.kept_names() == tuple(kept)
    scores = certain.score({name: value.detach().numpy() for name, value in kept.items()})
    # Of four photos all called the first class two are: precision 1/2, recall 1; the other two classes have an F1 of 0.
    assert scores == {"accuracy": 0.5, "f1_macro": pytest.approx(2 / 9)}


def test_predictions_are_probabilities_by_class_in_double_precision(certain):
    predicted = certain.predict_step({"id": ["a", "b"], "tiles": batch_of(0, 0)["tiles"]})
    assert predicted.ids == ["a", "b"] and list(predicted.columns) == [f"prob_{name}" for name in CLASSES]
    for column, expected in zip(predicted.columns.values(), (0.5, 0.25, 0.25), strict=True):
        assert column.dtype == torch.float64 and column.tolist() == pytest.approx([expected] * 2, abs=1e-7)
    assert predicted.arrays["embedding"].shape == (2, 24)
    assert torch.equal(predicted.arrays["embedding"], certain.network.features(batch_of(0, 0)["tiles"], None))


def test_probabilities_near_one_stay_apart_also_in_half_precision(certain):
    with torch.no_grad():
        certain.network.head[1].weight.normal_(std=0.02)
        certain.network.head[1].bias.copy_(torch.tensor([25.0, 0.0, 0.0]))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        predicted = certain.predict_step(batch_of(0, 1, 2, 0))
    column = predicted.columns[f"prob_{CLASSES[0]}"]
    assert len(column.unique()) == 4 and len(column.float().unique()) == 1


def test_the_loss_that_was_given_is_the_one_of_the_step():
    batch = batch_of(0, 1, 2)
    for given, expected in ((None, CombinedLoss()), (FocalLoss(gamma=3.0), FocalLoss(gamma=3.0))):
        output = made(loss=given).eval().step(batch)
        shares = torch.eye(3)
        assert output.losses["classification"].item() == expected(output.outputs["prediction"], shares).item()


def test_class_weights_weigh_the_loss_of_training_and_validation():
    task = made(loss=CrossEntropyLoss(), class_weights=True).eval()
    task.class_weights.copy_(torch.tensor([2.0, 0.5, 1.0]))
    output = task.step(batch_of(0, 1, 1, 2))
    logs = output.outputs["prediction"].log_softmax(dim=1)
    expected = -(2 * logs[0, 0] + 0.5 * logs[1, 1] + 0.5 * logs[2, 1] + logs[3, 2]) / 4
    assert output.losses["classification"].item() == pytest.approx(expected.item(), abs=1e-6)


# Mixed batches


def combined(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Half focal, half smoothed cross-entropy over class numbers; none of the task's own code."""
    plain = functional.cross_entropy(logits, targets, reduction="none")
    focal = ((1 - (-plain).exp()) ** 2 * plain).mean()
    return (focal + functional.cross_entropy(logits, targets, label_smoothing=0.1)) / 2


@pytest.mark.parametrize(
    ("loss", "of_pair"), [(CrossEntropyLoss(), functional.cross_entropy), (None, combined)], ids=["entropy", "combined"]
)
@pytest.mark.parametrize("kind", ["mixup_alpha", "cutmix_alpha"])
def test_the_loss_of_a_mixed_batch_is_the_weighted_sum_of_two(kind, loss: ClassLoss | None, of_pair):
    mixing = BatchMixing(**{kind: 1.0})
    task = made(loss=loss, mixing=mixing)
    batch = batch_of(0, 1, 2, 1)
    target, others = batch["target"], batch["target"].roll(1)
    for seed in range(3):
        torch.manual_seed(seed)
        output = task.step(batch)
        torch.manual_seed(seed)
        (tiles,), shares, _ = mixing.mix([batch["tiles"]], functional.one_hot(target, 3).float())
        # CutMix: the area that is still the photo's own; MixUp: 10 was mixed with 40, the last one.
        own, first = (tiles[0] == 10).float().mean(), tiles[0, 0, 0, 0]
        kept = own if kind == "cutmix_alpha" else (40 - first) / (40 - 10)
        assert 0 < kept < 1
        expected_shares = kept * functional.one_hot(target, 3) + (1 - kept) * functional.one_hot(others, 3)
        torch.testing.assert_close(shares, expected_shares, atol=1e-6, rtol=0)
        logits = output.outputs["prediction"]
        torch.testing.assert_close(logits, task.network(tiles))
        expected = kept * of_pair(logits, target) + (1 - kept) * of_pair(logits, others)
        assert output.losses["classification"].item() == pytest.approx(expected.item(), abs=1e-6)
        assert output.measures["accuracy"].numel() == 0


@pytest.mark.parametrize("kind", ["mixup_alpha", "cutmix_alpha"])
def test_bands_are_mixed_as_the_colours_are(kind):
    mixing = BatchMixing(**{kind: 1.0})
    task, batch = made(mixing=mixing, spectral_channels=2, use_dfca=False), batch_of(0, 1, 2, bands=2)
    torch.manual_seed(1)
    output = task.step(batch)
    torch.manual_seed(1)
    (tiles, bands), _, _ = mixing.mix([batch["tiles"], batch["bands"]], torch.eye(3))
    assert torch.equal(tiles[:, :2].float(), bands) and not torch.equal(tiles, batch["tiles"])
    torch.testing.assert_close(output.outputs["prediction"], task.network(tiles, bands))


def test_validation_and_prediction_never_mix():
    task = made(mixing=BatchMixing(mixup_alpha=1.0))
    plain = made()
    task.load_state_dict(plain.state_dict())
    batch = batch_of(0, 1, 2, 1)
    for one in (task, plain):
        one.eval()
    assert torch.equal(task.step(batch).outputs["prediction"], plain.step(batch).outputs["prediction"])
    assert torch.equal(task.step(batch).losses["classification"], plain.step(batch).losses["classification"])
    assert task.step(batch).measures["accuracy"].numel() == 4
    assert torch.equal(task.predict_step(batch).arrays["embedding"], plain.predict_step(batch).arrays["embedding"])


class Recorded(LeafClassifier):
    """Remembers what each training step gave."""

    def step(self, batch) -> StepOutput:
        output = super().step(batch)
        if self.training:
            self.steps.append(output)
        return output


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_training_accuracy_is_that_of_photos_as_they_are(probability, leaf_root, tmp_path):
    task = unbuilt(Recorded, mixing=BatchMixing(mixup_alpha=1.0, probability=probability))
    task.steps = []
    logged = fitted(task, leaf_module(leaf_root, image_size=32, batch_size=2), tmp_path)
    right = torch.cat([step.measures["accuracy"] for step in task.steps])
    assert len(task.steps) == 6 and (0 < len(right) < 12) == (probability == 0.5)
    if probability == 1:
        assert "train/accuracy" not in logged
    else:
        assert logged["train/accuracy"] == pytest.approx(right.mean().item(), abs=1e-6)
    assert {"train/loss", "train/lr", "val/accuracy", "val/f1_macro", "val/loss"} <= logged.keys()


# What a training takes from its data


def test_mixed_batches_hold_nothing_of_held_out_photos(leaf_root, tmp_path):
    """Their pixels can be anything: the weights do not change."""
    spoilt = Path(shutil.copytree(leaf_root, tmp_path / "spoilt"))
    data, blank = (leaf_module(root, image_size=32) for root in (leaf_root, spoilt))
    for name in data.names()[data.split.held_out(data.names())]:
        save(np.random.default_rng(1).integers(0, 256, (36, 48, 3), dtype=np.uint8), spoilt / name)
    mixing = BatchMixing(mixup_alpha=0.8, cutmix_alpha=1.0)
    tasks, logged = [unbuilt(mixing=mixing) for _ in range(2)], []
    for task, module in zip(tasks, (data, blank), strict=True):
        pl.seed_everything(0, verbose=False)
        logged.append(fitted(task, module, tmp_path))
    assert logged[0]["val/loss"] != logged[1]["val/loss"]
    assert all(torch.equal(value, tasks[1].state_dict()[name]) for name, value in tasks[0].state_dict().items())


def test_the_logged_scores_are_those_of_all_held_out_photos(leaf_root, tmp_path):
    data, task = leaf_module(leaf_root, image_size=32), unbuilt()
    logged = fitted(task, data, tmp_path)
    task.eval()
    with torch.inference_mode():
        steps = [(task.step(batch).outputs["prediction"], batch["target"]) for batch in data.val_dataloader()]
    assert len(steps) == 2
    logits, target = (torch.cat(part) for part in zip(*steps, strict=True))
    assert logged["val/accuracy"] == pytest.approx((logits.argmax(dim=1) == target).float().mean().item())
    f1 = []
    for number in range(len(CLASSES)):
        called, is_true = logits.argmax(dim=1) == number, target == number
        f1.append(2 * (called & is_true).sum().item() / max(1, (called.sum() + is_true.sum()).item()))
    assert logged["val/f1_macro"] == pytest.approx(np.mean(f1), abs=1e-6)
    expected = CombinedLoss()(logits, functional.one_hot(target, 3).float()).item()
    assert logged["val/loss"] == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def unequal(tmp_path_factory):
    """Six photos of the first class, four of the second, five of the third. Not to be changed."""
    root = tmp_path_factory.mktemp("unequal") / "data"
    for number, count in enumerate((6, 4, 5)):
        write_classes(root, count, CLASSES[number : number + 1], first_seed=1000 * number)
    return root


def test_classes_weigh_what_the_training_photos_of_the_fold_say(unequal, tmp_path):
    data = leaf_module(unequal, image_size=32)
    folds = pd.Series(1, index=data.names())
    folds[[name for name in folds.index if name.startswith(CLASSES[0])][:4]] = 0
    folds[[name for name in folds.index if name.startswith(CLASSES[1])][:1]] = 0
    data = leaf_module(unequal, folds=folds, image_size=32)  # trains on 2, 3 and 5
    task = unbuilt(class_weights=True)
    fitted(task, data, tmp_path)
    assert task.class_weights.tolist() == pytest.approx([10 / (3 * count) for count in (2, 3, 5)])
    assert sum(count * weight for count, weight in zip((2, 3, 5), task.class_weights.tolist(), strict=True)) == (
        pytest.approx(10)
    )


def test_rare_classes_are_not_made_up_for_twice(leaf_root):
    task, data = unbuilt(class_weights=True), leaf_module(leaf_root, balance="sampler")
    with pytest.raises(ConfigError, match=r"model\.class_weights and data\.balance: sampler .* Give one of them"):
        task.check_data(data)
    task.check_data(leaf_module(leaf_root))
    unbuilt().check_data(data)


def test_without_asking_all_classes_weigh_the_same(unequal, tmp_path):
    task = unbuilt()
    fitted(task, leaf_module(unequal, image_size=32), tmp_path)
    assert task.class_weights.tolist() == [1, 1, 1]


def test_classes_come_from_the_data_and_stay_with_the_weights(leaf_root, tmp_path):
    data, task = leaf_module(leaf_root, image_size=32), unbuilt()
    fit = trainer(tmp_path)
    fit.fit(task, data)
    assert task.classes == list(CLASSES)
    fit.save_checkpoint(tmp_path / "task.ckpt", weights_only=True)
    checkpoint = torch.load(tmp_path / "task.ckpt", weights_only=True)
    assert checkpoint["classes"] == list(CLASSES)
    loaded = unbuilt()
    loaded.on_load_checkpoint(checkpoint | {"classes": ["x", "y", "z"]})
    loaded.load_state_dict(checkpoint["state_dict"])
    batch = batch_of(0, 1, 2)
    found, expected = (one.eval().predict_step(batch).columns for one in (loaded, task))
    assert list(found) == ["prob_x", "prob_y", "prob_z"]
    assert all(torch.equal(one, other) for one, other in zip(found.values(), expected.values(), strict=True))


@pytest.mark.parametrize(
    "classes", [{}, {"classes": None}, {"classes": []}, {"classes": "abc"}, {"classes": ["a", 2]}], ids=str
)
def test_a_checkpoint_that_does_not_tell_its_classes_is_damaged(classes):
    with pytest.raises(RunError, match="does not tell its classes: it is damaged"):
        unbuilt().on_load_checkpoint(classes)


def test_a_checkpoint_loads_in_python(leaf_root, tmp_path):
    task = unbuilt(dropout=0.3, mixing=BatchMixing(mixup_alpha=0.8), class_weights=True)
    fit = trainer(tmp_path)
    fit.fit(task, leaf_module(leaf_root, image_size=32))
    fit.save_checkpoint(tmp_path / "task.ckpt", weights_only=True)
    loaded = LeafClassifier.load_from_checkpoint(tmp_path / "task.ckpt", weights_only=True)
    assert loaded.mixing == task.mixing and loaded.dropout == 0.3 and loaded.classes == list(CLASSES)
    assert torch.equal(loaded.network.head[1].weight, task.network.head[1].weight)


# Bands


@pytest.fixture(scope="module")
def bands(leaf_root, tmp_path_factory) -> Path:
    """Two bands of each photo: its number among all of them, and minus its square. Not to be changed."""
    folder = tmp_path_factory.mktemp("bands")
    for number, photo in enumerate(sorted(leaf_root.rglob("*.png"))):
        values = np.stack([np.full((36, 48), value, np.float32) for value in (number, -(number**2))])
        (folder / photo.parent.name).mkdir(exist_ok=True)
        np.save(folder / photo.parent.name / f"{photo.stem}.npy", values)
    return folder


@pytest.mark.parametrize(("channels", "given"), [(0, True), (3, True), (2, False)])
def test_bands_and_their_setting_agree(channels, given, leaf_root, bands):
    task = unbuilt(spectral_channels=channels)
    count = 2 if given else 0
    message = rf"model\.spectral_channels is {channels}, and data\.spectral has {count} bands"
    with pytest.raises(ConfigError, match=message):
        task.check_data(leaf_module(leaf_root, spectral=bands if given else None))
    unbuilt(spectral_channels=count).check_data(leaf_module(leaf_root, spectral=bands if given else None))


def test_bands_are_standardised_by_the_training_photos_alone(leaf_root, bands, tmp_path):
    data = leaf_module(leaf_root, fold=1, image_size=32, spectral=bands)
    numbers = np.flatnonzero((data.split.folds != 1).to_numpy())
    task = unbuilt(spectral_channels=2)
    fitted(task, data, tmp_path)
    assert len(numbers) == 12
    values = np.stack([numbers, -(numbers**2)])
    assert task.network.bands.mean.flatten().tolist() == pytest.approx(values.mean(axis=1).tolist(), rel=1e-6)
    assert task.network.bands.std.flatten().tolist() == pytest.approx(values.std(axis=1).tolist(), rel=1e-5)
    saved = task.state_dict()
    assert {"network.bands.mean", "network.bands.std"} <= saved.keys()  # a prediction has them from there


def test_colours_and_bands_are_fused_as_asked():
    by_attention = [
        type(made(spectral_channels=2, use_dfca=use_dfca).network.bands.fusion).__name__
        for use_dfca in (None, True, False)
    ]
    assert by_attention == ["CrossAttentionFusion", "CrossAttentionFusion", "ConcatenationFusion"]
    assert made().network.bands is None


def test_a_fusion_without_bands_is_warned_of_once(caplog):
    task_module._warn_of_fusion_without_bands.cache_clear()
    with caplog.at_level(logging.WARNING, logger="biomass_pl"):
        made(), made(use_dfca=False), made(use_dfca=True, spectral_channels=2)
        assert own_messages(caplog) == []
        for _ in range(2):
            made(use_dfca=True)
    assert own_messages(caplog) == [
        "model.use_dfca does nothing without bands: set data.spectral and model.spectral_channels"
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dropout": 1.0}, r"model\.dropout is 1\.0; give a rate"),
        ({"dropout": -0.1}, r"model\.dropout is -0\.1; give a rate"),
        ({"spectral_channels": -1}, r"model\.spectral_channels is -1"),
        ({"spectral_channels": 2, "tile_batch": 8}, r"model\.tile_batch .* Set it to 0"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        unbuilt(**settings)


class Explaining(LeafClassifier):
    """Remembers which photos it explains."""

    def _where_it_looked(self, item) -> np.ndarray:
        self.explained.append(item["id"])
        return super()._where_it_looked(item)


@pytest.mark.usefixtures("quick_pictures")
def test_a_photo_of_each_class_is_explained_before_a_second_one(leaf_root, tmp_path):
    data, task = leaf_module(leaf_root, image_size=32), unbuilt(Explaining)
    task.on_load_checkpoint({"classes": list(CLASSES)})
    task.explained = []
    held_out = data.items()[data.split.held_out(data.names())].assign(label_pred=CLASSES[0])
    task.illustrate(data, held_out, {"embedding": np.zeros((len(held_out), 24), np.float32)}, tmp_path)
    labels = [name.split("/")[0] for name in task.explained]
    assert labels == [*CLASSES, *CLASSES] and len(set(task.explained)) == 6
    assert {path.name for path in tmp_path.iterdir()} == {"embeddings.png", "attention.png"}
