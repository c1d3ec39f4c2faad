"""What a published argument of slides can change, each looked at where it acts, on a small network and small bags."""

import logging
import tempfile
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint

from biomass_pl.data.splits import Split
from biomass_pl.harness.parser import RunCLI
from biomass_pl.slide.captions import caption_tokens
from biomass_pl.slide.poolers import ImageEncoding
from biomass_pl.training.callbacks.remote_sync import RemoteSync
from biomass_pl.training.locking import logger as locking_logger
from biomass_pl.training.optim import TrainingLength

SMALL = (
    *("--data.hdf5_filename", "specimens.hdf5"),
    *("--data.hdf5_feature_attribute", "patch_features_comp_0"),
    *("--data.hdf5_text_attribute", "report"),
    *("--data.num_folds", "3"),
    *("--data.batch_size", "4"),
    *("--data.num_workers", "0"),
    *("--model.vocab_size", "300"),
    *("--model.generation.max_seq_len", "12"),
    *("--trainer.max_epochs", "2"),
)


def parsed(root: str, *settings: str) -> RunCLI:
    """The objects of fold 0, nothing of which is built."""
    cli = RunCLI(["--model", "SlideCaptioning", "--data", "SlideDataModule", "--data.root", root, *SMALL, *settings])
    cli.datamodule.use(Split(fold=0, folds=cli.datamodule.make_folds()))
    return cli


def started(cli: RunCLI) -> Any:
    """The task with its network as a training starts with it."""
    torch.manual_seed(0)
    cli.model.set_up_for(cli.datamodule)
    cli.model.configure_model()
    cli.model.start_from(cli.datamodule)
    return cli.model


def built(cli: RunCLI) -> Any:
    """The same with random weights, alike wherever they have the same shapes."""
    model = started(cli)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.network.named_parameters():
            if value.ndim > 1 and "logit" not in name:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    return model


def first_batch(cli: RunCLI) -> dict[str, Any]:
    """Of training."""
    return next(iter(cli.datamodule.train_dataloader()))


def names_of(loader: Any) -> list[str]:
    return [name for batch in loader for name in batch["id"]]


def divided(cli: RunCLI) -> Any:
    """What is learned from, by name and report, and what is held out."""
    data = cli.datamodule
    return (
        names_of(data.plain_loader(held_out=False)),
        names_of(data.plain_loader(held_out=True)),
        data.training_reports(),
    )


def tested(cli: RunCLI) -> Any:
    items = cli.datamodule.test_items()
    return None if items is None else items["specimen_id"].tolist()


def batch(cli: RunCLI) -> Any:
    first = first_batch(cli)
    return first["id"], first["features"].tolist(), first["report"]


def loader(cli: RunCLI) -> Any:
    made = cli.datamodule.train_dataloader()
    return made.num_workers, made.batch_size


def shapes(cli: RunCLI) -> Any:
    return [(name, tuple(value.shape)) for name, value in built(cli).network.named_parameters()]


def weights(cli: RunCLI) -> Any:
    return [float(value.detach().double().sum()) for value in started(cli).network.parameters()]


def learning(cli: RunCLI) -> Any:
    """Names of the weights that learn."""
    return [name for name, value in started(cli).network.named_parameters() if value.requires_grad]


def told_of_locks(cli: RunCLI) -> Any:
    """What is said when towers are locked."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    level = locking_logger.level
    locking_logger.addHandler(handler)
    locking_logger.setLevel(logging.INFO)
    try:
        started(cli)
    finally:
        locking_logger.removeHandler(handler)
        locking_logger.setLevel(level)
    return told


def compiled(cli: RunCLI) -> Any:
    """Modules that compile when they are first used."""
    return [name for name, module in started(cli).network.named_modules() if module._compiled_call_impl is not None]


def kept_for_backward(cli: RunCLI) -> Any:
    """Numbers that the forward pass keeps for the backward pass."""
    model, first = built(cli).train(), first_batch(cli)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda value: kept.append(value.numel()) or value, lambda value: value
    ):
        model.step(first)
    return sum(kept)


def parts(cli: RunCLI) -> Any:
    """Bags that the image tower has at a time."""
    model, first = built(cli), first_batch(cli)
    seen: list[int] = []
    model.network.image.register_forward_pre_hook(lambda module, arguments: seen.append(len(arguments[0])))
    model.step(first)
    return seen


def loss(cli: RunCLI) -> Any:
    return {name: float(part.detach()) for name, part in built(cli).step(first_batch(cli)).losses.items()}


def loss_settings(cli: RunCLI) -> Any:
    return cli.model.loss


def rates(cli: RunCLI) -> Any:
    """The settings of AdamW for each group of weights, and its rates over the training."""
    length = TrainingLength(epochs=cli.trainer.max_epochs, steps_per_epoch=3)
    steps = range(3 * length.epochs)
    return [
        (group.name, group.weight_decay, group.betas, group.eps, [group.rate(step) for step in steps])
        for group in built(cli).parameter_groups(length)
    ]


def answers(cli: RunCLI) -> Any:
    """Classes and probabilities of the first specimens."""
    model, data = built(cli).eval(), cli.datamodule
    first = next(iter(data.plain_loader(held_out=True)))
    with torch.inference_mode():
        model.evaluation.prepare(model.network, model.tokenizer, data)
        image = model.network.encode_image(first["features"], first["valid"]).embedding
    found = model.evaluation.columns(first["id"], image.numpy())
    return {name: list(column) for name, column in found.items()}


def written(cli: RunCLI) -> Any:
    """Tokens of reports on the first specimens."""
    model = built(cli).eval()
    first = next(iter(cli.datamodule.plain_loader(held_out=True)))
    with torch.inference_mode():
        image = model.network.encode_image(first["features"][:4], first["valid"][:4])
        tokens = caption_tokens(
            model.network,
            ImageEncoding(image.embedding, image.memory),
            first["id"][:4],
            settings=model.generation,
            seed=0,
        )
    return tokens.tolist()


def scores(cli: RunCLI) -> Any:
    """Scores of a table of predictions, with their intervals."""
    rows = range(1, 13)
    table = pd.DataFrame(
        {
            "specimen_id": [f"s{row}" for row in rows],
            "patient_id": [f"p{row // 2}" for row in rows],
            "fold": 0,
            "report": "benign cyst",
            "image_to_text_rank": [float(row) for row in rows],
            "text_to_image_rank": [float(row % 5 + 1) for row in rows],
        }
    )
    return cli.model.report.score(table)["pooled"]


class Observer(Callback):
    """Notes the names of the scores of each validation."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, tuple[str, ...]]] = []

    def on_validation_end(self, trainer, pl_module):
        logged = {
            name for name, value in trainer.callback_metrics.items() if name.startswith("val/") and value == value
        }
        self.seen.append((trainer.current_epoch, tuple(sorted(logged))))


def fitted(cli: RunCLI, folder: Path) -> Observer:
    """Trains as the settings say, with its files in a folder."""
    observer = Observer()
    trainer: Trainer = cli.instantiate_trainer(
        default_root_dir=str(folder),
        logger=False,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in cli.configured_callbacks()),
        limit_train_batches=1,
        limit_val_batches=1,
        callbacks=[*cli.configured_callbacks(), observer],
    )
    trainer.fit(cli.model, datamodule=cli.datamodule)
    return observer


def validated(cli: RunCLI) -> Any:
    """After which epochs there were which scores."""
    with tempfile.TemporaryDirectory() as folder:
        return fitted(cli, Path(folder)).seen


def left(cli: RunCLI) -> Any:
    """Files that a training leaves, but for those in folders of its sources."""
    with tempfile.TemporaryDirectory() as folder:
        fitted(cli, Path(folder))
        return sorted(
            {"/".join(path.relative_to(folder).parts[:2]) for path in Path(folder).rglob("*") if path.is_file()}
        )


def copied(cli: RunCLI) -> Any:
    """Files that a training copies to another place."""
    with tempfile.TemporaryDirectory() as folder:
        fitted(cli, Path(folder))
    places = [Path(callback.remote) for callback in cli.configured_callbacks() if isinstance(callback, RemoteSync)]
    return sorted(path.name for place in places for path in place.rglob("*") if path.is_file())


def callbacks(cli: RunCLI) -> Any:
    """Numbers and texts that the callbacks hold."""
    return [
        {name: value for name, value in vars(callback).items() if isinstance(value, str | int | float)}
        for callback in cli.configured_callbacks()
    ]


def trainer(name: str) -> Callable[[RunCLI], Any]:
    return lambda cli: reduce(getattr, name.split("."), cli.trainer)


def synchronised(cli: RunCLI) -> Any:
    """Whether batch normalisation of several processes is made one."""
    return type(cli.trainer.strategy._layer_sync).__name__


def loggers(cli: RunCLI) -> Any:
    return [type(logger).__name__ for logger in cli.trainer.loggers]


def strategy(cli: RunCLI) -> Any:
    found = cli.trainer.strategy
    return found.dist_url, found.process_group_backend, found.set_device_rank, found._ddp_kwargs
