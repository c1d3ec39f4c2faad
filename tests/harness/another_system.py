"""A system unlike those of the package: bags of vectors beside a few words, no pictures, one split, two towers.

It stands for all that the shared rooms are to take as it comes.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback
from matplotlib.figure import Figure
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import Dataset

from biomass_pl.data.augmentation import item_generator
from biomass_pl.data.base import FoldDataModule
from biomass_pl.data.sampling import shuffled
from biomass_pl.data.splits import NEVER_HELD_OUT
from biomass_pl.errors import ConfigError, DataError
from biomass_pl.evaluation.pictures import save_figure
from biomass_pl.evaluation.report import Report, score_grid
from biomass_pl.training.optim import ParameterGroup
from biomass_pl.training.task import Objective, PredictOutput, StepOutput, Task

WITH_TESTS = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
"""Environment of processes that are to find these classes."""

VOCABULARY = ("dense", "pale", "round", "torn")
WIDTH = 3
WARDS = ("007", "NA", "north, left", "")
"""Texts that a CSV reader would take for numbers, for nothing, or for two."""


def write_bags(root: Path, *, trained_on=20, held_out=8, test=4) -> Path:
    """A data folder: a table of bags, each with one word that tells where its vectors lie, and the vectors."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(len(VOCABULARY), WIDTH))
    parts = ["training"] * trained_on + ["held out"] * held_out + ["test"] * test
    words = [VOCABULARY[number % len(VOCABULARY)] for number in range(len(parts))]
    names = [f"bag_{number:02}" for number in range(len(parts))]
    lengths = rng.integers(1, 6, len(parts))
    root.mkdir()
    wards = [WARDS[number // 2 % len(WARDS)] for number in range(len(parts))]
    table = pd.DataFrame({"bag_id": names, "ward": wards, "words": words, "part": parts})
    table.to_csv(root / "bags.csv", index=False)
    vectors = {
        name: directions[VOCABULARY.index(word)] + rng.normal(scale=0.3, size=(length, WIDTH))
        for name, word, length in zip(names, words, lengths, strict=True)
    }
    np.savez(root / "bags.npz", **vectors)
    return root


class BagDataset(Dataset):
    def __init__(self, *, root: Path, rows: pd.DataFrame, dropped: float, seed: int):
        with np.load(root / "bags.npz") as archive:
            self.bags = [archive[name].astype(np.float32) for name in rows["bag_id"]]
        self.rows = rows
        self.dropped = dropped
        self.seed = seed

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, place):
        index, epoch = place
        row, bag = self.rows.iloc[index], self.bags[index]
        kept = item_generator(self.seed, epoch, row["bag_id"]).random(len(bag)) >= self.dropped
        kept[0] = True
        counts = torch.tensor([float(word in row["words"].split()) for word in VOCABULARY])
        return {"id": row["bag_id"], "bag": torch.from_numpy(bag[kept]), "words": counts}


def one_after_another(items: list[dict]) -> dict:
    """A batch of bags of different lengths: all vectors in one tensor, and how many are whose."""
    return {
        "id": [item["id"] for item in items],
        "vectors": torch.cat([item["bag"] for item in items]),
        "lengths": [len(item["bag"]) for item in items],
        "words": torch.stack([item["words"] for item in items]),
    }


class Bags(FoldDataModule):
    """Bags of vectors with words.

    Args:
        root: Data folder.
        dropped: Share of a bag's vectors that a training step leaves out.
        folds: Into how many folds those held out are dealt.
        score_test: Whether the words of test bags are told, to score with.
        batch_size: Bags per step.
        num_workers: Processes that load bags.
        prefetch_factor: Batches that each worker prepares ahead.
        seed: Seed of order and of what is left out.
    """

    id_columns = ("bag_id", "ward")

    def __init__(
        self,
        *,
        root: Path,
        dropped: float = 0.5,
        folds: int = 1,
        score_test: bool = False,
        batch_size: int = 8,
        num_workers: int = 0,
        prefetch_factor: int = 2,
        seed: int = 42,
    ):
        super().__init__(
            root=root, batch_size=batch_size, num_workers=num_workers, prefetch_factor=prefetch_factor, seed=seed
        )
        self.dropped = dropped
        self.folds = folds
        self.score_test = score_test
        self._selected = pd.DataFrame()

    @cached_property
    def _table(self):
        if not (self.root / "bags.csv").is_file():
            raise DataError(f"{self.root / 'bags.csv'} does not exist. Name the folder of the bags.")
        return pd.read_csv(self.root / "bags.csv", dtype=str, keep_default_na=False)

    @property
    def _labelled(self):
        return self._table[self._table["part"] != "test"].reset_index(drop=True)

    def items(self):
        return self._labelled[["bag_id", "ward", "words"]]

    def test_items(self):
        test = self._table[self._table["part"] == "test"].reset_index(drop=True)
        return test[["bag_id", "ward", "words"]] if self.score_test else None

    def make_folds(self):
        held_out = (self._labelled["part"] == "held out").to_numpy()
        dealt = np.arange(len(held_out)) % self.folds
        return pd.Series(np.where(held_out, dealt, NEVER_HELD_OUT), index=pd.Index(self.names()), name="fold")

    def check(self):
        if self._labelled.empty:
            raise DataError(f"{self.root / 'bags.csv'} has no bag to learn from. Add some.")

    def select(self, source, *, files: Sequence[Path] = (), views=("plain",)):
        if source == "files":
            raise ConfigError("A bag is no file of its own. Use --split test.")
        test = self._table[self._table["part"] == "test"].reset_index(drop=True)
        self._selected = test if source == "test" else self._rows(held_out=True)

    def broken_items(self):
        return {}

    def leave_out(self, names):
        self._selected = self._selected[~self._selected["bag_id"].isin(names)]

    def training_loader(self):
        rows = self._rows(held_out=False)
        return self._loader(rows, dropped=self.dropped, order=shuffled(len(rows)))

    def plain_loader(self, *, held_out):
        return self._loader(self._rows(held_out=held_out))

    def predict_dataloader(self):
        return self._loader(self._selected, shared=False)

    def _rows(self, *, held_out):
        return self._labelled[self.split.held_out(self.names()) == held_out]

    def _loader(self, rows, *, dropped=0.0, **how):
        dataset = BagDataset(root=self.root, rows=rows, dropped=dropped, seed=self.seed)
        return self.loader(dataset, len(dataset), collate=one_after_another, **how)


class Retrieval(Report):
    """How far down the list of all words' vectors a bag finds its own."""

    uses_arrays = True
    text_columns = ("words", "words_pred")

    def score(self, table, arrays=None):
        folds = {
            str(fold): _rank(arrays["image"][rows], arrays["text"][rows])
            for fold, rows in table.reset_index().groupby("fold").indices.items()
        }
        return {
            "pooled": {"bags": len(table), "rank": _rank(arrays["image"], arrays["text"])},
            "folds": folds,
            "constant": {"pooled": {"rank": (len(table) + 1) / 2}},
        }

    def render(self, scores, *, title):
        grid = score_grid(title=title, caption="mean rank", headings=["pooled", "last"])
        grid.add_row("rank", *(f"{scores[name]['rank']:.3f}" for name in ("pooled", "pooled_last") if name in scores))
        return grid

    def draw(self, table, path):
        figure = Figure()
        figure.subplots().hist(table["certainty"])
        save_figure(figure, path)

    def finished(self, table):
        return table


def _rank(image, text):
    similar = image @ text.T
    return float((similar >= np.diag(similar)[:, None]).sum(axis=1).mean())


class BagTask(Task):
    """Brings a bag and its words together.

    Args:
        width: Length of the vectors of both.
        rate: Learning rate of the bags' tower.
    """

    objective = Objective(name="val/loss", mode="min")
    report = Retrieval()

    def __init__(self, *, width: int = 4, rate: float = 0.05):
        super().__init__()
        self.save_hyperparameters()
        self.width = width
        self.rate = rate

    def build(self):
        return nn.ModuleDict({"image": nn.Linear(WIDTH, self.width), "text": nn.Linear(len(VOCABULARY), self.width)})

    def embed(self, batch):
        means = torch.stack([bag.mean(dim=0) for bag in batch["vectors"].split(batch["lengths"])])
        return {
            "image": normalize(self.network["image"](means), dim=1),
            "text": normalize(self.network["text"](batch["words"]), dim=1),
        }

    def step(self, batch):
        vectors = self.embed(batch)
        similar = 5 * vectors["image"] @ vectors["text"].T
        own = torch.arange(len(similar), device=similar.device)
        losses = {"of_words": cross_entropy(similar, own), "of_bags": cross_entropy(similar.T, own)}
        return StepOutput(losses=losses, outputs=vectors)

    def predict_step(self, batch, batch_idx=0):
        vectors = self.embed(batch)
        known = normalize(self.network["text"](torch.eye(len(VOCABULARY), device=self.device)), dim=1)
        certainty, best = (vectors["image"] @ known.T).max(dim=1)
        words = [VOCABULARY[place] for place in best.tolist()]
        return PredictOutput(ids=batch["id"], columns={"certainty": certainty, "words_pred": words}, arrays=vectors)

    def parameter_groups(self, length):
        rates = {"image": self.rate, "text": self.rate / 10}
        decays = {"image": 0.1, "text": 0.0}
        return [
            ParameterGroup(
                name=name,
                parameters=list(self.network[name].parameters()),
                rate=lambda step, rate=rates[name]: rate,
                weight_decay=decays[name],
            )
            for name in rates
        ]

    def kept_names(self):
        return "image", "text"

    def keep(self, output, batch):
        return output.outputs

    def score(self, kept):
        return {"rank": _rank(kept["image"], kept["text"])}


class Stumble(Callback):
    """Breaks a training off in its third epoch, once for each file `stumble`."""

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 2 and Path("stumble").exists():
            Path("stumble").unlink()
            raise RuntimeError("stumbled")
