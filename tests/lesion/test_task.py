"""Training of the lesion classifier, seen from the batch to the logged score."""

import logging
import math
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch

from biomass_pl.data.splits import Split
from biomass_pl.errors import ConfigError
from biomass_pl.lesion.classifier import BACKBONES
from biomass_pl.lesion.data import LesionDataModule
from biomass_pl.lesion.losses import CrossEntropyLoss, FocalLoss
from biomass_pl.lesion.partial_auc import lesion_scores
from biomass_pl.lesion.task import LesionClassifier
from biomass_pl.training.callbacks.freeze import BackboneFreeze
from biomass_pl.training.optim import OptimConfig

TINY = {"backbone": "test_vit.r160_in1k", "pretrained": False, "tile_size": 32}
FEATURES = 64
FAST = OptimConfig(head_lr=1e-2, backbone_lr=1e-3, head_lr_frozen=1e-2, warmup_epochs=0)


def fold_data(root: Path, folds: pd.Series | None = None) -> LesionDataModule:
    data = LesionDataModule(root=root, num_folds=3, image_size=32, batch_size=16, num_workers=0, seed=1)
    data.use(Split(fold=0, folds=data.make_folds() if folds is None else folds))
    return data


def trainer(folder: Path, **settings) -> pl.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return pl.Trainer(
        max_epochs=settings.pop("max_epochs", 1),
        logger=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        **quiet,
        **settings,
    )


@pytest.fixture
def task() -> LesionClassifier:
    """Before its training."""
    pl.seed_everything(0, verbose=False)
    built = LesionClassifier(**TINY, optim=FAST)
    built.configure_model()
    return built


@pytest.fixture
def still(task) -> LesionClassifier:
    """The same without dropout."""
    return task.eval()


def own_messages(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("biomass_pl")]


@pytest.fixture
def held_out(lesions) -> LesionDataModule:
    data = fold_data(lesions)
    data.select("held_out")
    return data


@pytest.fixture
def batch(held_out) -> dict:
    return next(iter(held_out.predict_dataloader()))


def one_class_folds(root: Path) -> pd.Series:
    """Folds of which the first holds out benign lesions alone."""
    labels = fold_data(root).items()
    benign = labels.index[labels["target"] == 0]
    folds = pd.Series(1, index=labels["isic_id"])
    folds.iloc[benign[:20]] = 0
    return folds


def test_training_changes_backbone_and_head_and_logs_the_scores_of_the_whole_fold(task, held_out, tmp_path):
    before = {name: value.clone() for name, value in task.named_parameters()}
    trained = trainer(tmp_path, max_epochs=2)
    trained.fit(task, held_out)
    changed = {name.split(".")[1] for name, value in task.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"backbone", "head"}
    task.eval()
    with torch.inference_mode():
        batches = [(task.step(batch).outputs["prediction"], batch["target"]) for batch in held_out.predict_dataloader()]
    assert len(batches) > 1  # the score is of all of them together
    logits, truth = (torch.cat(parts).double().numpy() for parts in zip(*batches, strict=True))
    assert len(truth) == (held_out.split.folds == 0).sum()
    scores = lesion_scores(truth, logits)
    assert set(scores) == {"pauc", "auc"} and 0 < scores["auc"] < 1
    for name, score in scores.items():
        assert float(trained.callback_metrics[f"val/{name}"]) == pytest.approx(score, abs=1e-6)
    for stage in ("train", "val"):
        loss = float(trained.callback_metrics[f"{stage}/loss"])
        assert math.isfinite(loss) and loss == float(trained.callback_metrics[f"{stage}/loss_classification"])


def test_a_fold_of_one_class_has_no_score_and_says_so(task, lesions, tmp_path, caplog):
    data = fold_data(lesions, one_class_folds(lesions))
    trained = trainer(tmp_path)
    with caplog.at_level(logging.WARNING, logger="biomass_pl"):
        trained.fit(task, data)
    assert math.isnan(trained.callback_metrics["val/pauc"]) and math.isnan(trained.callback_metrics["val/auc"])
    assert math.isfinite(trained.callback_metrics["val/loss"])
    assert own_messages(caplog) == [
        "Epoch 1 has no val/pauc: the truth is the same for all items, or a prediction is not finite."
    ]


def test_a_fold_of_both_classes_is_no_reason_to_warn(task, held_out, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="biomass_pl"):
        trainer(tmp_path).validate(task, held_out, verbose=False)
    assert not own_messages(caplog)


def test_a_step_compares_logits_with_targets(still, batch):
    output = still.step(batch)
    assert output.outputs["prediction"].shape == batch["target"].shape
    assert torch.equal(output.outputs["prediction"], still.network(batch["tiles"]).squeeze(dim=1))
    assert output.losses["classification"].item() == FocalLoss()(output.outputs["prediction"], batch["target"]).item()
    plain = LesionClassifier(**TINY, loss=CrossEntropyLoss())
    plain.network = still.network
    expected = CrossEntropyLoss()(output.outputs["prediction"], batch["target"])
    assert plain.eval().step(batch).losses["classification"].item() == expected.item()


def test_a_batch_of_one_is_a_batch(still, batch):
    one = {"id": batch["id"][:1], "tiles": batch["tiles"][:1], "target": batch["target"][:1]}
    output = still.step(one)
    assert output.outputs["prediction"].shape == (1,) and output.losses["classification"].shape == ()
    predicted = still.predict_step(one)
    assert predicted.columns["target_pred"].shape == (1,) and predicted.arrays["embedding"].shape == (1, FEATURES)


def test_predictions_are_named_probabilities_with_the_features_they_are_made_of(still, batch):
    with torch.inference_mode():
        predicted = still.predict_step(batch)
        features = still.network.backbone(batch["tiles"])
        logits = still.step(batch).outputs["prediction"]
    assert (set(predicted.columns), set(predicted.arrays)) == ({"target_pred"}, {"embedding"})
    assert predicted.ids == batch["id"]
    probability = predicted.columns["target_pred"]
    assert probability.dtype == torch.float64 and ((probability > 0) & (probability < 1)).all()
    assert torch.equal(probability, logits.double().sigmoid())
    assert predicted.arrays["embedding"].shape == (len(batch["id"]), FEATURES)
    assert torch.equal(predicted.arrays["embedding"], features)


def test_probabilities_near_one_stay_apart(still, batch):
    with torch.inference_mode():
        still.network.head[1].bias.fill_(25)
        probability = still.predict_step(batch).columns["target_pred"]
    assert len(probability.unique()) == len(batch["id"])
    assert len(probability.float().unique()) == 1


def test_logits_are_not_rounded_in_half_precision(still, held_out):
    """Lesions whose logits differ in the third digit, most of which bfloat16 does not have."""
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        still.network.head[1].bias.fill_(3)
        still.network.head[1].weight.mul_(1e-2)
        batches = list(held_out.predict_dataloader())
        logits = torch.cat([still.step(batch).outputs["prediction"] for batch in batches])
        probability = torch.cat([still.predict_step(batch).columns["target_pred"] for batch in batches])
    assert logits.dtype == torch.float32
    assert len(probability.unique()) == len(probability) > 30
    assert len(logits.bfloat16().unique()) < len(probability) / 2


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.filterwarnings("ignore:.*AMP")
def test_half_precision_trains_and_predicts(precision, task, held_out, tmp_path):
    half = trainer(tmp_path, precision=precision, gradient_clip_val=1.0)
    half.fit(task, held_out)
    rows = half.predict(task, held_out)
    probability = torch.cat([row.columns["target_pred"] for row in rows])
    assert probability.dtype == torch.float64 and len(probability.unique()) == len(probability)


class Snapshots(pl.Callback):
    """The backbone at the end of each epoch."""

    def __init__(self) -> None:
        self.states: list[torch.Tensor] = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.states.append(torch.cat([value.detach().flatten() for value in pl_module.backbone.parameters()]))


def test_a_frozen_backbone_is_bit_identical_until_it_thaws(task, held_out, tmp_path):
    before = torch.cat([value.detach().clone().flatten() for value in task.backbone.parameters()])
    snapshots = Snapshots()
    trainer(tmp_path, max_epochs=3, callbacks=[BackboneFreeze(epochs=2), snapshots]).fit(task, held_out)
    assert [torch.equal(state, before) for state in snapshots.states] == [True, True, False]


def test_a_checkpoint_loads_in_python(task, held_out, tmp_path):
    fitted = trainer(tmp_path)
    fitted.fit(task, held_out)
    fitted.save_checkpoint(tmp_path / "task.ckpt", weights_only=True)
    loaded = LesionClassifier.load_from_checkpoint(tmp_path / "task.ckpt")
    assert loaded.optim == FAST and loaded.dropout == 0.2
    assert loaded.backbone_name == TINY["backbone"]
    assert torch.equal(loaded.network.head[1].weight, task.network.head[1].weight)


def test_short_names_and_any_network_of_timm_name_the_backbone():
    assert LesionClassifier(backbone="eva02_base").backbone_name == BACKBONES["eva02_base"]
    assert LesionClassifier().backbone_name == BACKBONES["vit_tiny"]
    assert LesionClassifier(backbone="test_vit.r160_in1k").backbone_name == "test_vit.r160_in1k"


def test_a_checkpoint_of_a_short_name_keeps_its_meaning(tmp_path):
    task = LesionClassifier(backbone="vit_tiny", dropout=0.3)
    assert dict(task.hparams)["dropout"] == 0.3
    again = LesionClassifier(**{name: value for name, value in task.hparams.items() if not name.startswith("_")})
    assert again.backbone_name == task.backbone_name


def test_the_published_settings_are_the_defaults():
    task = LesionClassifier()
    assert isinstance(task.loss, FocalLoss)
    assert (task.loss.alpha, task.loss.gamma, task.dropout) == (0.25, 2.0, 0.2)


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_an_impossible_dropout_is_refused(dropout):
    with pytest.raises(ConfigError, match=f"model.dropout is {dropout}; give a rate"):
        LesionClassifier(**TINY, dropout=dropout)


def test_an_unknown_backbone_is_refused_before_training():
    with pytest.raises(ConfigError, match="timm has no network 'vit_tny'"):
        LesionClassifier(backbone="vit_tny", pretrained=False).configure_model()


def test_scores_come_from_float64(still, held_out, tmp_path):
    """Logits of an epoch are compared as they are: none is turned into a probability, which could tie."""
    with torch.no_grad():
        still.network.head[1].bias.fill_(40)  # every probability is 1 in float32 and in float64
    trained = trainer(tmp_path)
    trained.validate(still, held_out, verbose=False)
    with torch.inference_mode():
        logits = (
            torch.cat([still.step(batch).outputs["prediction"] for batch in held_out.predict_dataloader()])
            .double()
            .numpy()
        )
    truth = held_out.items()["target"].to_numpy()[(held_out.split.folds == 0).to_numpy()]
    expected = lesion_scores(truth, logits)
    assert expected["auc"] != 0.5 and np.unique(logits).size > 30
    assert float(trained.callback_metrics["val/auc"]) == pytest.approx(expected["auc"], abs=1e-6)
