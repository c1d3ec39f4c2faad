"""`biomass embed`: what a recipe's backbone says of photos, in a file; nothing is trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from biomass_pl.data.base import FoldDataModule
from biomass_pl.data.feature_files import write_features
from biomass_pl.data.photos import find_photos
from biomass_pl.data.splits import Split
from biomass_pl.data.tiles import tiles_over
from biomass_pl.errors import ConfigError, DataError, listed
from biomass_pl.files import require_writable
from biomass_pl.harness.parser import RunCLI
from biomass_pl.harness.predictor import ALONE
from biomass_pl.harness.processes import on_its_own
from biomass_pl.terminal import progress, say
from biomass_pl.training.backbone import Backbone
from biomass_pl.training.callbacks.feature_bank import bank_embeddings
from biomass_pl.training.embedder import Embedder, Pooling
from biomass_pl.training.image_task import ImageTask


@dataclass(frozen=True, kw_only=True)
class EmbedOptions:
    """What `biomass embed` takes beside Lightning's settings.

    Args:
        out: The file to write.
        split: Labelled photos or those of the test table.
        images: Photos or folders instead.
        layers: Layers of the network, as timm counts them; none takes what it gives itself.
        pool: How patches become a vector; none: as the network does.
        scales: Tiles along each side of a photo as a share of those of its grid.
    """

    out: Path
    split: Literal["labelled", "test"] = "labelled"
    images: Sequence[Path] | None = None
    layers: Sequence[int] = ()
    pool: Sequence[Pooling] = ()
    scales: Sequence[float] = (1.0,)


def embed(options: EmbedOptions, arguments: Sequence[str]) -> None:
    """Writes the features of photos by a recipe's backbone.

    Args:
        options: Which photos and features, and the file.
        arguments: The recipe and settings of Lightning's form.

    Raises:
        BiomassError: Something the user can mend; nothing was written.
    """
    _check(options)
    with on_its_own():
        cli = RunCLI([*arguments, *ALONE, "--trainer.logger=false"], command="embed")
    data, task = cli.datamodule, cli.model
    if not isinstance(task, ImageTask):
        raise ConfigError(f"{type(task).__name__} has no backbone that looks at photos. Choose a recipe of photos.")
    if data.given is not None:
        raise ConfigError(f"data.features {data.given.file.path} takes the backbone's place. Leave data.features out.")
    if task.init_from is not None:
        raise ConfigError(
            "model.init_from gives every fold a backbone of its own, and a file has room for one. Leave it out, or "
            "name one backbone's weights as model.backbone_weights."
        )
    data.prepare()
    _select(data, options)
    backbone = task.make_backbone(patches=False).to(cli.trainer.strategy.root_device).eval()
    encoder = (
        Embedder(backbone=backbone, layers=options.layers, poolings=options.pool) if _chooses(options) else backbone
    )
    found = [_features(cli, encoder, scale) for scale in options.scales]
    names, values = found[0].names, _side_by_side(found)
    made_by = {
        "backbone": backbone.name,
        "backbone_args": backbone.args,
        "weights": backbone.fingerprint(),
        "precision": str(cli.trainer.precision),
        **(encoder.description() if isinstance(encoder, Embedder) else {}),
        "scales": list(options.scales),
        "photos": [features.pictures for features in found],  # of each scale
    }
    write_features(options.out, names, values, made_by)
    count, views, tiles, width = values.shape
    say(f"{count} photo(s), {views} x {tiles} vectors of {width} numbers each: {options.out}")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Features:
    """Features of all photos at one scale.

    Args:
        names: Names of the photos.
        values: float32 (photos, views, tiles, width).
        grid: Rows and columns of the tiles of a view.
        pictures: How photos became tiles.
    """

    names: list[str]
    values: np.ndarray
    grid: tuple[int, int]
    pictures: dict[str, Any]


def _check(options: EmbedOptions) -> None:
    """Refuses what cannot be done, before anything is loaded."""
    if options.images and options.split == "test":
        raise ConfigError("--images and --split test name different photos. Give one of them.")
    if options.out.suffix.lower() != ".npz":
        raise ConfigError(f"--out {options.out} is to be a NumPy archive. Give a name that ends in .npz.")
    if options.out.exists():
        raise ConfigError(f"--out {options.out} is there already. Remove it, or give another name.")
    require_writable(options.out)
    for name, chosen in (("layers", options.layers), ("pool", options.pool), ("scales", options.scales)):
        if len(set(chosen)) < len(chosen):
            raise ConfigError(f"--{name} {' '.join(map(str, chosen))} names one twice. Leave it out once.")


def _chooses(options: EmbedOptions) -> bool:
    return bool(options.layers or options.pool)


def _select(data: FoldDataModule, options: EmbedOptions) -> None:
    """Chooses the photos, all of which can be read.

    Raises:
        DataError: Some cannot; lists them.
    """
    if options.split == "labelled" and not options.images:
        data.check()
        names = data.names()
        data.use(Split(fold=0, folds=pd.Series(0, index=pd.Index(names))))  # no training: all are held out
        data.select("held_out")
        return
    data.select("files" if options.images else "test", files=find_photos(options.images or []))
    broken = data.broken_items()
    if broken:
        problems = [reason if name in reason else f"{name}: {reason}" for name, reason in broken.items()]
        raise DataError(f"{len(broken)} photo(s) cannot be used; replace them:\n{listed(problems, 50)}")


def _features(cli: RunCLI, encoder: Backbone | Embedder, scale: float) -> _Features:
    """Features of what was selected, at one scale; through the bank where the data have one."""
    data: Any = cli.datamodule
    data.use_scale(scale)
    data.use_features(None)
    if data.bank is not None:
        bank_embeddings(encoder, data, data.bank, cli.trainer)
    loader = data.predict_dataloader()
    names: list[str] = []
    parts = []
    with (
        torch.inference_mode(),
        cli.trainer.precision_plugin.forward_context(),
        progress("Features", len(loader)) as advance,
    ):
        for batch in loader:
            given = batch.get("features")
            features = encoder(batch["tiles"].to(cli.trainer.strategy.root_device)) if given is None else given
            parts.append(features.float().cpu())
            names += batch["id"]
            advance()
    values = torch.cat(parts).numpy()
    by_tile = values.reshape(len(values), *([1] * (4 - values.ndim)), *values.shape[1:])
    rows, columns = data.photo_grid()
    return _Features(
        names=names,
        values=by_tile,
        grid=(rows, columns // by_tile.shape[1]),
        pictures=data.picture_description(),
    )


def _side_by_side(found: Sequence[_Features]) -> np.ndarray:
    """The features of all scales; each tile of the finest grid carries those over its middle."""
    finest = max((features.grid for features in found), key=lambda grid: grid[0] * grid[1])
    parts = [features.values[:, :, tiles_over(finest, features.grid)] for features in found]
    return np.concatenate(parts, axis=-1, dtype=np.float32)
