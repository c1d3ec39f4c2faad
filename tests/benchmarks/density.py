"""What the density model is worth on the rendered sample; run by hand: python tests/benchmarks/density.py [--seeds N ...]

Trains it and the model of total and shares at equal settings, and prints the out-of-fold score of both, how far a map's
sum is from its prediction, and how well the map's clover follows the clover that was drawn (rank correlation over the
patches): of the patches of a photo, the mean over the photos with clover, and of all patches of all photos. The first may
be .01 below the other model's, the gap at most 1e-4 g, the correlation at least .5.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from rich.console import Console
from scipy.stats import spearmanr

from biomass_pl.pasture.sample.render import clover_covers, render_sample
from biomass_pl.pasture.targets import TARGETS
from biomass_pl.runs import Run, find_run

CONSOLE = Console(highlight=False)
RECIPE = Path(__file__).parents[2] / "configs" / "density.yaml"
WIDTH = 480
SETTINGS = {"data.tile_size": 112, "data.num_workers": 0, "data.aug_prob": 0.1, "data.cache_images": "true"}
"""Those of a first run on the sample, whose photos are small."""

MODELS = {"PatchDensity": {}, "HierarchicalRatio": {"model.hidden_ratio": 0.1}}


def run_biomass(folder: Path, command: str, *options: str, **settings: object) -> None:
    """Runs a command as a user does."""
    arguments = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    whole = [sys.executable, "-m", "biomass_pl", command, *options, *arguments]
    subprocess.run(whole, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def fitted(folder: Path, model: str, seed: int, settings: dict[str, object]) -> Run:
    """A run of a model on the sample."""
    name = f"{model}_{seed}"
    everything = {"model": model, "seed_everything": seed, "name": name, **SETTINGS, **settings, **MODELS[model]}
    run_biomass(folder, "fit", "--config", str(RECIPE), **everything)
    return find_run(folder / "lightning_logs")


def largest_gap(run: Run, maps: Path) -> float:
    """Grams by which the sum of a map is at most off its prediction."""
    table = pd.read_csv(run.oof_predictions).set_index("image_id")[[f"{target}_pred" for target in TARGETS[:3]]]
    gaps = []
    for image_id, predicted in table.iterrows():
        size = json.loads((maps / f"{image_id}.json").read_text())["mm_per_pixel"]
        grams = (
            np.load(maps / f"{image_id}.npy").sum(axis=(1, 2), dtype=np.float64) * size["across"] * size["down"] / 1e6
        )
        gaps.append(np.abs(grams - predicted.to_numpy()).max())
    return max(gaps)


def clover_correlations(maps: Path, photos: int) -> tuple[float, float]:
    """Rank correlation of mapped and drawn clover: mean over photos with clover, and of all patches."""
    found, pooled = [], []
    for image_id, cover in clover_covers(photos=photos, width=WIDTH):
        mapped = np.load(maps / f"{image_id}.npy")[2]
        drawn = cv2.resize(cover, mapped.shape[::-1], interpolation=cv2.INTER_AREA)
        pooled.append(np.stack([mapped.ravel(), drawn.ravel()]))
        if drawn.max() > 0:
            found.append(spearmanr(mapped.ravel(), drawn.ravel()).statistic)
    return float(np.mean(found)), float(spearmanr(*np.concatenate(pooled, axis=1)).statistic)


def main() -> None:
    """Prints the scores, the gap and the correlations of every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=240)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--weights", type=Path, help="weights file of the backbone, instead of timm's")
    parser.add_argument("--folder", type=Path, help="where sample, runs and maps go (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = (options.folder or Path(name)).resolve()
        if not (folder / "data").exists():
            render_sample(out=folder / "data", photos=options.photos, width=WIDTH)
        weights = {} if options.weights is None else {"model.backbone_weights": options.weights.resolve()}
        for seed in options.seeds:
            runs = {model: fitted(folder, model, seed, weights) for model in MODELS}
            for model, run in runs.items():
                pooled = json.loads((run.path / "oof_metrics.json").read_text())["pooled"]
                CONSOLE.print(f"seed {seed}, {model}: weighted_r2 {pooled['weighted_r2']:.3f}")
            maps = folder / f"maps_{seed}"
            run_biomass(folder, "predict", run=runs["PatchDensity"].path, maps=maps)
            CONSOLE.print(f"largest gap of a map's sum: {largest_gap(runs['PatchDensity'], maps):.1e} g")
            of_photos, of_all = clover_correlations(maps, options.photos)
            CONSOLE.print(
                f"rank correlation with drawn clover: {of_photos:.3f} within photos, {of_all:.3f} of all patches"
            )


if __name__ == "__main__":
    main()
