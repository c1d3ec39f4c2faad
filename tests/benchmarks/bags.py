"""Loading of many large bags; run by hand: python tests/benchmarks/bags.py [--specimens N] [--batch_size B] (Linux).

Specimens of 50 to 3,000 vectors (median 500) x 384 in half precision are rendered into one HDF5 file. Printed are the
time and memory until the first batch of the data module, the share of padding, and how many times faster its two
workers load batches of similar sizes than such that are drawn at random and padded by
`torch.nn.utils.rnn.pad_sequence`. Memory is the proportional set size of all processes: a page that N processes
share counts 1/N in each.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from biomass_pl.data.base import use_one_thread
from biomass_pl.data.sampling import EpochOrder, EpochSampler, shuffled
from biomass_pl.data.splits import Split
from biomass_pl.slide.bags import SpecimenDataset
from biomass_pl.slide.batches import length_grouped, longest_first
from biomass_pl.slide.data import SlideDataModule
from biomass_pl.slide.sample.render import render_specimens

CONSOLE = Console(highlight=False)


def simply_padded(items: list[dict]) -> dict:
    """A batch as it is made without further thought."""
    bags = [item["features"].float() for item in items]
    sizes = torch.tensor([len(bag) for bag in bags])
    features = pad_sequence(bags, batch_first=True)
    return {"features": features, "valid": torch.arange(features.shape[1]) < sizes[:, None]}


def memory() -> float:
    """Gigabytes of this process and its workers."""
    found = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True).stdout.split()
    total = 0
    for process in [str(os.getpid()), *found]:
        path = Path("/proc", process, "smaps_rollup")
        if path.exists():
            total += sum(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith("Pss:"))
    return total / 1e6


def padding(lengths: np.ndarray, indices: np.ndarray, batch_size: int) -> float:
    """Share of padding in whole batches."""
    batches = lengths[indices[: len(indices) // batch_size * batch_size]].reshape(-1, batch_size)
    return 1 - batches.sum() / (batches.max(axis=1).sum() * batch_size)


def loader(data: SlideDataModule, dataset: SpecimenDataset, order: EpochOrder, collate) -> DataLoader:
    """As the data module makes one, but for order and collation."""
    return DataLoader(
        dataset,
        batch_size=data.batch_size,
        sampler=EpochSampler(length=len(dataset), order=order, seed=0),
        num_workers=data.num_workers,
        prefetch_factor=data.prefetch_factor,
        persistent_workers=True,
        collate_fn=collate,
        worker_init_fn=use_one_thread,
    )


def load(name: str, batches: DataLoader) -> float:
    """Bags per second of an epoch; prints it, and the most memory."""
    largest, count, seconds, start = 0.0, 0, 0.0, time.perf_counter()
    for number, batch in enumerate(batches):
        count += len(batch["features"])
        if number % 10 == 0:  # looking takes time, in which workers go on for a few batches at most
            seconds += time.perf_counter() - start
            largest, start = max(largest, memory()), time.perf_counter()
    speed = count / (seconds + time.perf_counter() - start)
    CONSOLE.print(f"{name}: {speed:.0f} bags/s, up to {largest:.2f} GB")
    return speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--specimens", type=int, default=5000)
    parser.add_argument("--batch_size", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "data")
        render_specimens(out=root, specimens=options.specimens, fewest_vectors=50, most_vectors=3000)
        start = time.perf_counter()
        data = SlideDataModule(
            root=root,
            hdf5_filename=Path("specimens.hdf5"),
            hdf5_feature_attribute="patch_features_comp_0",
            hdf5_text_attribute="report",
            batch_size=options.batch_size,
            num_workers=2,
        )
        data.check()
        folds = data.make_folds()
        data.use(Split(fold=0, folds=folds))
        data.check_split()
        checked = time.perf_counter() - start
        batches = data.train_dataloader()
        next(iter(batches))
        CONSOLE.print(
            f"first batch after {time.perf_counter() - start:.1f} s (at most 20), {checked:.1f} s of them to check "
            f"specimens and make folds; {memory():.2f} GB (at most 1.5)"
        )
        dataset = batches.dataset
        del batches
        lengths = data.items().set_index("specimen_id")["vectors"][dataset.names].to_numpy()
        CONSOLE.print(
            f"{len(lengths)} training bags of {lengths.min()} to {lengths.max()}, median {np.median(lengths):.0f}"
        )
        orders = {
            "random": shuffled(len(lengths)).indices(np.random.default_rng(0)),
            "grouped": length_grouped(lengths, options.batch_size).indices(np.random.default_rng(0)),
            "sorted": longest_first(lengths),
        }
        for name, indices in orders.items():
            CONSOLE.print(f"padding of {name} batches: {padding(lengths, indices, options.batch_size):.1%}")
        random = load("random", loader(data, dataset, shuffled(len(lengths)), simply_padded))
        grouped = load("grouped", data.train_dataloader())
        CONSOLE.print(f"{grouped / random:.1f} times as fast (3 or more is wanted)")


if __name__ == "__main__":
    main()
