"""Time of a pixel epoch against a plain loop; run by hand: python tests/benchmarks/epochs.py [--photos N]

The plain loop is shaped like the published scripts: rows of a table per item, photos decoded whole, the same random
changes, then normalised floats, a plain AdamW. Backbone, tiles, fusion, head and loss are the same modules. They run in
turn, each epoch in a process of its own: how threads wait is settled when one starts, and the `biomass` command chooses
it. The printed ratios are of medians. Head-only training must take at most 0.75 x of the plain loop's time, full
fine-tuning at most 0.85 x; bf16 must be at least 1.8 x as fast as fp32 where the CPU has it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import albumentations as A  # noqa: N812
import cv2
import numpy as np
import pandas as pd
import torch
from albumentations.pytorch import ToTensorV2
from lightning.pytorch import Callback, Trainer
from rich.console import Console
from torch.utils.data import DataLoader, Dataset

from biomass_pl.data.photo_changes import _geometric, _photometric
from biomass_pl.data.splits import Split
from biomass_pl.pasture.data import PastureDataModule
from biomass_pl.pasture.sample.render import render_sample
from biomass_pl.pasture.tables import read_labels
from biomass_pl.pasture.targets import TARGETS
from biomass_pl.pasture.task import HierarchicalRatio
from biomass_pl.training.callbacks.freeze import BackboneFreeze
from biomass_pl.training.optim import OptimConfig

BACKBONE, TILE, BATCH, WORKERS = "vit_tiny_patch16_224", 224, 4, 2
CONSOLE = Console(highlight=False)


class PlainDataset(Dataset):
    """What the published scripts do for one photo."""

    def __init__(self, table: pd.DataFrame, root: Path, *, train: bool) -> None:
        self.table, self.root = table, root
        normalise = [A.Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)), ToTensorV2()]
        shape = (2 * TILE, 2 * TILE)
        changes = [_geometric(shape, 0.5), _photometric(0.5)] if train else []
        self.changes = A.Compose([*changes, A.Resize(*shape, interpolation=cv2.INTER_AREA), *normalise])

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        row = self.table.iloc[index]
        photo = cv2.cvtColor(cv2.imread(str(self.root / row["image_path"])), cv2.COLOR_BGR2RGB)
        middle = photo.shape[1] // 2
        views = [self.changes(image=view)["image"] for view in (photo[:, :middle], photo[:, middle:])]
        tiles = [view[:, y : y + TILE, x : x + TILE] for view in views for y in (0, TILE) for x in (0, TILE)]
        grams = torch.tensor(row[list(TARGETS)].to_numpy(dtype=np.float32))
        return torch.stack(tiles).reshape(2, 4, 3, TILE, TILE), grams


def new_task(data: PastureDataModule) -> HierarchicalRatio:
    """A fresh network, as the configuration builds it."""
    torch.manual_seed(0)
    task = HierarchicalRatio(backbone=BACKBONE, pretrained=False, tile_size=TILE, optim=OptimConfig())
    task.configure_model()
    task.start_from(data)
    return task


def plain_epoch(data: PastureDataModule, *, frozen: bool) -> float:
    """Seconds of one epoch of the plain loop, validation included."""
    task = new_task(data)
    table = read_labels(data.root)
    held_out = table["image_id"].map(data.split.folds) == data.split.fold
    datasets = [
        PlainDataset(table[~held_out], data.root, train=True),
        PlainDataset(table[held_out], data.root, train=False),
    ]
    train, validation = (
        DataLoader(dataset, batch_size=BATCH, num_workers=WORKERS, shuffle=dataset is datasets[0])
        for dataset in datasets
    )
    task.network.train()
    if frozen:
        task.network.backbone.requires_grad_(False).eval()
    optimizer = torch.optim.AdamW([weight for weight in task.parameters() if weight.requires_grad], lr=1e-4)

    def predict(tiles: torch.Tensor) -> torch.Tensor:
        features = task.network.backbone.network(tiles.flatten(end_dim=2)).reshape(*tiles.shape[:3], -1)
        return task.network.head(task.network.fusion(features))

    started = time.perf_counter()
    for tiles, grams in train:
        losses = task.loss(predict(tiles), grams, log_target=False)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
    task.network.eval()
    with torch.no_grad():
        for tiles, grams in validation:
            task.loss(predict(tiles), grams, log_target=False)
    return time.perf_counter() - started


class Stopwatch(Callback):
    """Seconds of an epoch, validation included."""

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.seconds = time.perf_counter() - self.started


def our_epoch(data: PastureDataModule, *, frozen: bool, precision: str = "32-true") -> float:
    """Seconds of one epoch of this package, validation included."""
    task, stopwatch = new_task(data), Stopwatch()
    trainer = Trainer(
        accelerator="cpu",
        precision=precision,
        max_epochs=1,
        gradient_clip_val=1.0,
        callbacks=[*([BackboneFreeze(epochs="all")] if frozen else []), stopwatch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    trainer.fit(task, data)
    return stopwatch.seconds


def has_bf16() -> bool:
    """Whether Linux says that the CPU has instructions for it; without them it is slower than fp32."""
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and any(name in flags.read_text() for name in ("avx512_bf16", "amx_bf16"))


def measured(loop: str, root: Path, *, frozen: bool) -> float:
    """Seconds of one epoch in a process of its own, whose start does not count."""
    environment = os.environ if loop == "plain loop" else os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, __file__, "--root", str(root), "--loop", loop, *(["--frozen"] if frozen else [])]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return float(output.split()[-1])


def run_one(loop: str, root: Path, *, frozen: bool) -> None:
    """Runs an epoch and prints its seconds last."""
    data = PastureDataModule(root=root, cv_strategy="random", tile_size=TILE, batch_size=BATCH, num_workers=WORKERS)
    data.use(Split(fold=0, folds=data.make_folds()))
    if loop == "plain loop":
        seconds = plain_epoch(data, frozen=frozen)
    else:
        seconds = our_epoch(data, frozen=frozen, precision={"fp32": "32-true", "bf16": "bf16-mixed"}[loop])
    CONSOLE.print(seconds)


def main() -> None:
    """Prints seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--root", type=Path, help="photos to use instead of rendered ones")
    parser.add_argument("--loop", help=argparse.SUPPRESS)
    parser.add_argument("--frozen", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        run_one(options.loop, options.root, frozen=options.frozen)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = options.root or Path(folder) / "data"
        if options.root is None:
            render_sample(out=root, photos=options.photos, test_photos=0, width=2000)
        loops = ["plain loop", "fp32", *(["bf16"] if has_bf16() else [])]
        for frozen, limit in ((True, 0.75), (False, 0.85)):
            seconds: dict[str, list[float]] = {loop: [] for loop in loops}
            for _ in range(options.repeats):
                for loop in loops:
                    seconds[loop].append(measured(loop, root, frozen=frozen))
            median = {loop: statistics.median(times) for loop, times in seconds.items()}
            stage = "head only" if frozen else "full fine-tuning"
            CONSOLE.print(f"{stage}: " + ", ".join(f"{loop} {time:.2f} s" for loop, time in median.items()))
            CONSOLE.print(f"  fp32 / plain loop {median['fp32'] / median['plain loop']:.2f} (at most {limit})")
            if "bf16" in median:
                CONSOLE.print(f"  fp32 / bf16 {median['fp32'] / median['bf16']:.2f} (at least 1.8)")


if __name__ == "__main__":
    main()
