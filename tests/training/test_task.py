"""What every task does alike: its mean losses, its features, its predictions."""

import pytest
import torch

from biomass_pl.pasture.targets import TARGETS
from biomass_pl.pasture.task import SoftmaxRatio
from biomass_pl.training.task import LossMeans


def test_means_weigh_batches_by_their_items_and_start_anew_once_taken():
    means = LossMeans()
    weight = torch.tensor(3.0, requires_grad=True)
    means.add({"regression": 2 * weight, "constraint": torch.tensor(1.0)}, 4)
    means.add({"regression": weight, "constraint": torch.tensor(4.0)}, 2)
    taken = means.take()
    assert not taken["regression"].requires_grad
    assert {name: float(value) for name, value in taken.items()} == pytest.approx({"regression": 5, "constraint": 2})
    means.add({"regression": torch.tensor(7.0)}, 1)
    assert {name: float(value) for name, value in means.take().items()} == {"regression": 7}


@pytest.fixture
def task() -> SoftmaxRatio:
    torch.manual_seed(0)
    built = SoftmaxRatio(backbone="test_vit.r160_in1k", pretrained=False, tile_size=32)
    built.configure_model()
    return built.eval()


@pytest.fixture
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
    assert list(predicted) == ["id", *(f"{target}_pred" for target in TARGETS), "embedding"]
    assert predicted["id"] == ["a", "b"]
    features = task.features(batch)
    assert predicted["embedding"].shape == (2, features.shape[-1])
    assert torch.allclose(predicted["embedding"], features.mean(dim=(1, 2)), atol=1e-6)
    grams = task.step(batch).prediction
    for column, target in enumerate(TARGETS):
        assert torch.equal(predicted[f"{target}_pred"], grams[:, column])
