"""Loading of many large bags; run by hand: python tests/benchmarks/bags.py [--specimens N] [--batch_size B] (Linux).

Specimens of 50 to 3,000 vectors (median 500) x 384 in half precision are rendered into one HDF5 file. Printed are the
time and memory until the first batch, with and without reading every bag once before, the share of padding, and how
many times faster two workers load batches of similar sizes than such that are drawn at random and padded by
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
from biomass_pl.slide.bags import BagAugmentation, SpecimenDataset, padded_batch
from biomass_pl.slide.batches import length_grouped, longest_first
from biomass_pl.slide.sample.render import render_specimens
from biomass_pl.slide.specimens import SpecimenFiles, Specimens, check_features, open_specimens, specimen_table

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


def loader(specimens: Specimens, names: list[str], order: EpochOrder, batch_size: int, collate) -> DataLoader:
    dataset = SpecimenDataset(
        bags=specimens.bags,
        names=names,
        tokens=[[1] * 40] * len(names),
        cutoff=100_000,
        augmentation=BagAugmentation(),
        seed=0,
    )
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochSampler(length=len(names), order=order, seed=0),
        num_workers=2,
        persistent_workers=True,
        collate_fn=collate,
        worker_init_fn=use_one_thread,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--specimens", type=int, default=5000)
    parser.add_argument("--batch_size", type=int, default=32)
    options = parser.parse_args()
    batch_size = options.batch_size
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "data")
        render_specimens(out=root, specimens=options.specimens, fewest_vectors=50, most_vectors=3000)
        start = time.perf_counter()
        specimens = open_specimens(
            SpecimenFiles(
                hdf5_filename=root / "specimens.hdf5",
                hdf5_feature_attribute="patch_features_comp_0",
                hdf5_text_attribute="report",
            )
        )
        names = list(specimens.patients)
        lengths = specimen_table(specimens, names)["vectors"].to_numpy()
        grouped = length_grouped(lengths, batch_size)
        batches = iter(loader(specimens, names, grouped, batch_size, padded_batch))
        next(batches)
        CONSOLE.print(f"first batch after {time.perf_counter() - start:.1f} s, with {memory():.2f} GB")
        del batches
        start = time.perf_counter()
        check_features(specimens.bags, names)
        CONSOLE.print(f"every bag read once in {time.perf_counter() - start:.1f} s more")
        orders = {
            "random": shuffled(len(names)).indices(np.random.default_rng(0)),
            "grouped": grouped.indices(np.random.default_rng(0)),
            "sorted": longest_first(lengths),
        }
        for name, indices in orders.items():
            CONSOLE.print(f"padding of {name} batches: {padding(lengths, indices, batch_size):.1%}")
        speeds = {}
        ways = {"random": (shuffled(len(names)), simply_padded), "grouped": (grouped, padded_batch)}
        for name, (order, collate) in ways.items():
            start, largest, count = time.perf_counter(), 0.0, 0
            for batch in loader(specimens, names, order, batch_size, collate):
                count += len(batch["features"])
                if count % (10 * batch_size) == 0:
                    largest = max(largest, memory())
            speeds[name] = count / (time.perf_counter() - start)
            CONSOLE.print(f"{name}: {speeds[name]:.0f} bags/s, up to {largest:.2f} GB")
        CONSOLE.print(f"{speeds['grouped'] / speeds['random']:.1f} times as fast (3 or more is wanted)")


if __name__ == "__main__":
    main()
