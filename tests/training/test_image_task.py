"""What all tasks on pictures do alike: their features, predictions, groups of weights, and what is refused."""

import pytest
import torch

from biomass_pl.errors import ConfigError
from biomass_pl.pasture.targets import TARGETS
from biomass_pl.pasture.task import SoftmaxRatio
from biomass_pl.training.optim import OptimConfig, TrainingLength

CONVOLUTIONS = "test_resnet.r160_in1k"  # with batch normalisation


def new_task(backbone: str = "test_vit.r160_in1k", **settings) -> SoftmaxRatio:
    torch.manual_seed(0)
    return SoftmaxRatio(backbone=backbone, pretrained=False, tile_size=32, **settings)


@pytest.fixture(scope="module")
def task() -> SoftmaxRatio:
    built = new_task()
    built.configure_model()
    return built.eval()


@pytest.fixture(scope="module")
def batch() -> dict:
    """Two photos of two views with three tiles each."""
    tiles = torch.randint(0, 256, (2, 2, 3, 3, 32, 32), dtype=torch.uint8)
    return {"id": ["a", "b"], "tiles": tiles, "target": torch.ones(2, len(TARGETS))}


@torch.inference_mode()
def test_features_are_those_of_the_backbone_or_of_the_bank(task, batch):
    features = task.features(batch)
    assert torch.equal(features, task.network.backbone(batch["tiles"]))
    kept = torch.zeros_like(features)
    assert task.features(batch | {"features": kept}) is kept
    assert task.features({"id": ["a"], "features": kept}) is kept


@torch.inference_mode()
def test_a_prediction_has_a_column_per_target_and_the_mean_feature_of_the_photo(task, batch):
    predicted = task.predict_step(batch)
    assert list(predicted.columns) == [f"{target}_pred" for target in TARGETS]
    assert list(predicted.arrays) == ["embedding"]
    assert predicted.ids == ["a", "b"]
    features = task.features(batch)
    assert predicted.arrays["embedding"].shape == (2, features.shape[-1])
    assert torch.allclose(predicted.arrays["embedding"], features.mean(dim=(1, 2)), atol=1e-6)
    grams = task.step(batch).outputs["prediction"]
    for column, target in enumerate(TARGETS):
        assert torch.equal(predicted.columns[f"{target}_pred"], grams[:, column])


def test_every_weight_is_in_one_group_and_the_backbones_are_by_themselves(task):
    task.optim = OptimConfig(weight_decay=0.03, head_lr=1e-3, backbone_lr=1e-4, warmup_epochs=0)
    backbone, head = task.parameter_groups(TrainingLength(epochs=2, steps_per_epoch=3))
    assert (backbone.name, head.name) == ("backbone", "head")
    assert [id(weight) for weight in backbone.parameters] == [id(weight) for weight in task.backbone.parameters()]
    grouped = [id(weight) for weight in (*backbone.parameters, *head.parameters)]
    assert sorted(grouped) == sorted(id(weight) for weight in task.parameters())
    assert (backbone.rate(0), head.rate(0)) == pytest.approx((1e-4, 1e-3))
    assert backbone.weight_decay == head.weight_decay == 0.03


@pytest.mark.parametrize("frozen", ["all", 2, 0])
def test_a_backbone_that_never_learns_is_frozen_from_the_start(frozen):
    """Before several processes wrap the network, as one that is frozen for a while must not be."""
    task = new_task()
    task.frozen_epochs = frozen
    task.configure_model()
    assert {weight.requires_grad for weight in task.backbone.parameters()} == {frozen != "all"}
    assert all(weight.requires_grad for weight in task.network.head.parameters())


@pytest.mark.parametrize("frozen", [0, 2])
def test_parts_of_batches_would_spoil_batch_normalisation_and_are_refused(frozen):
    task = new_task(CONVOLUTIONS, tile_batch=4)
    task.frozen_epochs = frozen
    with pytest.raises(ConfigError) as caught:
        task.configure_model()
    message = str(caught.value)
    assert "model.tile_batch 4" in message and CONVOLUTIONS in message and "model.tile_batch: 0" in message


def test_parts_of_batches_are_fine_where_no_statistics_are_learnt():
    """Frozen for all epochs, or a network without batch normalisation; and where the batch is whole."""
    frozen = new_task(CONVOLUTIONS, tile_batch=4)
    frozen.frozen_epochs = "all"
    for task in (frozen, new_task(tile_batch=4), new_task(CONVOLUTIONS)):
        task.configure_model()
        assert task.backbone.tile_batch == task.tile_batch


def test_a_negative_part_of_a_batch_is_refused():
    with pytest.raises(ConfigError, match=r"model\.tile_batch is -1; give 0"):
        new_task(tile_batch=-1)
