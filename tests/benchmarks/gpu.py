"""Full fine-tuning of DINOv2 base on a GPU; run by hand: python tests/benchmarks/gpu.py

`biomass bench` times the recipe two_stage.yaml without its frozen stage: 8 tiles of 518 px per photo, bf16, compiled,
batches of 2, 4, 8 and 16 photos, with and without gradient checkpointing. The best without checkpointing must reach
45 % of the dense bf16 matrix rate that is measured in the same call, and the loader alone must be faster than training.
Weights are random: they change no time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from biomass_pl.pasture.sample.render import render_sample

RECIPE = Path(__file__).parents[2] / "configs" / "two_stage.yaml"
BATCHES = (2, 4, 8, 16)


def bench(folder: Path, root: Path, *, batch: int, checkpointing: bool, options: list[str]) -> dict | None:
    """What `biomass bench` wrote, or none where it failed, as when memory runs out."""
    report = folder / f"{batch}_{checkpointing}.json"
    settings = {
        "data.root": root,
        "data.batch_size": batch,
        "data.num_workers": os.cpu_count(),
        "model.pretrained": "false",
        "model.compile": "true",
        "model.grad_checkpointing": str(checkpointing).lower(),
        "trainer.precision": "bf16-mixed",
        "trainer.callbacks": "null",
    }
    arguments = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "biomass_pl", "bench", "--config", str(RECIPE), *arguments, *options]
    status = subprocess.run([*command, "--steps", "20", "--out", str(report)], cwd=folder, stdout=subprocess.DEVNULL)
    return json.loads(report.read_text()) if status.returncode == 0 else None


def main() -> None:
    """Prints photos per second, share of the matrix rate and memory; other settings are handed on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="photos to use instead of rendered ones")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    own, options = parser.parse_known_args()
    table = Table("batch", "checkpointing", "photos/s", "loader photos/s", "share of the matrix rate", "peak GB")
    best = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = (own.root or folder / "data").resolve()
        if own.root is None:
            render_sample(out=root, photos=200, test_photos=0, width=2000)
        for checkpointing in (False, True):
            for batch in own.batches:
                report = bench(folder, root, batch=batch, checkpointing=checkpointing, options=options)
                if report is None:
                    table.add_row(str(batch), str(checkpointing), "failed")
                    continue
                stage = report["stages"][-1]
                if not checkpointing:
                    best = max(best, stage["utilisation"])
                table.add_row(
                    str(batch),
                    str(checkpointing),
                    f"{stage['train_photos_per_s']:.1f}",
                    f"{report['loader_photos_per_s']:.1f}",
                    f"{stage['utilisation']:.0%}",
                    f"{stage['peak_memory_gb']:.1f}",
                )
    console = Console(highlight=False)
    console.print(table)
    console.print(f"best share of the matrix rate {best:.0%} (at least 45 %)")


if __name__ == "__main__":
    main()
