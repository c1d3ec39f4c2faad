"""What a published key of the leaf system can change, each looked at where it acts, on a tiny network and photos."""

import json
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import timm
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping

from biomass_pl.data.splits import Split
from biomass_pl.harness.parser import RunCLI
from biomass_pl.training.optim import TrainingLength
from tests.leaf.conftest import FOLDS

CONFIGS = Path(__file__).parents[2] / "configs"
SIMCLR, HVIT = "leaf_simclr.yaml", "leaf_hvit.yaml"
"""Recipes of the two phases."""

NETWORK = ("--model.backbone_args", json.dumps({"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]}))
SMALL = (
    *NETWORK,
    *("--data.image_size", "32"),
    *("--data.num_folds", str(FOLDS)),
    *("--data.batch_size", "4"),
    *("--data.num_workers", "0"),
)
ONE_EPOCH = ("--trainer.max_epochs", "1", "--trainer.logger", "false", "--trainer.enable_checkpointing", "false")
"""A training that leaves no files."""


def parsed(recipe: str, root: str, *settings: str) -> RunCLI:
    """The objects of fold 0 of a recipe with a tiny network and tiny photos."""
    cli = RunCLI(["--config", str(CONFIGS / recipe), "--data.root", root, *SMALL, *settings])
    cli.datamodule.use(Split(fold=0, folds=cli.datamodule.make_folds()))
    return cli


def built(cli: RunCLI) -> Any:
    """The task with its network, which has the same random weights wherever these have the same shapes."""
    cli.model.set_up_for(cli.datamodule)
    cli.model.configure_model()
    generator = torch.Generator().manual_seed(0)
    for value in cli.model.parameters():
        value.data = torch.randn(value.shape, generator=generator) * 0.1
    cli.model.start_from(cli.datamodule)
    return cli.model


def batch(cli: RunCLI) -> Any:
    """The first training batch: photos, or pairs of views of them."""
    cli.model.set_up_for(cli.datamodule)
    first = next(iter(cli.datamodule.train_dataloader()))
    return {name: part.tolist() if isinstance(part, torch.Tensor) else part for name, part in first.items()}


def loader(cli: RunCLI) -> Any:
    made = cli.datamodule.train_dataloader()
    return made.num_workers, made.batch_size


def shapes(cli: RunCLI) -> Any:
    return [(name, tuple(value.shape)) for name, value in built(cli).named_parameters()]


def features(cli: RunCLI) -> Any:
    model = built(cli).eval()
    tiles = torch.randint(256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.inference_mode():
        return model.backbone(tiles).tolist()


def backbone_weights(cli: RunCLI) -> Any:
    cli.model.set_up_for(cli.datamodule)
    cli.model.configure_model()
    return [float(value.detach().sum()) for value in cli.model.backbone.parameters()]


def loss(cli: RunCLI) -> Any:
    """The loss of an epoch's batches as a training step computes it."""
    model = built(cli).train()
    torch.manual_seed(0)
    batches = list(cli.datamodule.train_dataloader())
    return [part.item() for batch in batches for part in model.step(batch).losses.values()]


def learning(cli: RunCLI) -> Any:
    """Weight decay and rates of each group of weights over the training."""
    length = TrainingLength(epochs=cli.trainer.max_epochs, steps_per_epoch=2)
    groups = built(cli).parameter_groups(length)
    steps = range(2 * length.epochs)
    return [(group.name, group.weight_decay, [group.rate(step) for step in steps]) for group in groups]


def drop_rates(cli: RunCLI) -> Any:
    modules = list(built(cli).modules())
    dropped = [module.p for module in modules if isinstance(module, torch.nn.Dropout)]
    paths = [module.drop_prob for module in modules if isinstance(module, timm.layers.DropPath)]
    attention = [module.attn_drop.p for module in modules if isinstance(module, timm.layers.Attention)]
    return dropped, paths, attention


def kept_for_backward(cli: RunCLI) -> Any:
    """Numbers that the forward pass keeps for the backward pass."""
    kept = []
    model = built(cli).train()
    with torch.autograd.graph.saved_tensors_hooks(
        lambda value: kept.append(value.numel()) or value, lambda value: value
    ):
        model.backbone(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    return sum(kept)


class Observer(Callback):
    """Notes after each epoch how many steps were made, whether the backbone learned, and when it was last probed."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def on_validation_epoch_end(self, trainer, pl_module):
        learns = all(value.requires_grad for value in pl_module.backbone.parameters())
        probed = pl_module.probe.epochs if hasattr(pl_module, "probe") else None
        self.seen.append((trainer.global_step, learns, probed))


def trained(cli: RunCLI) -> Observer:
    observer = Observer()
    cli.trainer.callbacks.append(observer)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    return observer


def epochs(cli: RunCLI) -> Any:
    return trained(cli).seen


def trained_weights(cli: RunCLI) -> Any:
    """What validates and predicts after an epoch."""
    trained(cli)
    return [float(value.detach().sum()) for value in cli.model.parameters()]


def trainer(name: str) -> Callable[[RunCLI], Any]:
    return lambda cli: reduce(getattr, name.split("."), cli.trainer)


def early_stopping(cli: RunCLI) -> Any:
    stopping = [callback for callback in cli.configured_callbacks() if isinstance(callback, EarlyStopping)]
    return [(callback.monitor, callback.patience, callback.min_delta) for callback in stopping]


def strategy(cli: RunCLI) -> Any:
    return type(cli.trainer.strategy).__name__
