"""Bags of vectors as items of a dataset: cut to a size, changed at random in training, and padded to batches."""

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from biomass_pl.data.augmentation import item_generator
from biomass_pl.errors import ConfigError
from biomass_pl.slide.specimens import Bags, read_bag

_EVALUATION_EPOCH = 0


@dataclass(frozen=True, kw_only=True)
class BagAugmentation:
    """How bags are changed at random in training.

    Args:
        drop_patches: Chance of each vector to be left out; one of them always stays.
        noise: Standard deviation of what is added to each number.
        subsample: Share of the vectors that is kept, drawn for each bag between the least and the most.

    Raises:
        ConfigError: A number is out of range.
    """

    drop_patches: float = 0.0
    noise: float = 0.0
    subsample: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        least, most = self.subsample
        if not 0 <= self.drop_patches < 1:
            raise ConfigError(f"data.aug_cfg: drop_patches is {self.drop_patches}; give a share from 0 to below 1.")
        if not 0 <= self.noise < float("inf"):
            raise ConfigError(f"data.aug_cfg: noise is {self.noise}; give a standard deviation of 0 or more.")
        if not 0 < least <= most <= 1:
            raise ConfigError(
                f"data.aug_cfg: subsample is {least} to {most}; give a share above 0 and up to 1, or the least and "
                "the most."
            )


def parse_augmentation(settings: Mapping[str, Any] | Sequence[str]) -> BagAugmentation:
    """Reads `data.aug_cfg`.

    Args:
        settings: Values by name, or words such as `noise=0.1` and `subsample=(0.5,1)`.

    Raises:
        ConfigError: A name is unknown, or a value is none.
    """
    pairs = _pairs(settings)
    known = [field.name for field in fields(BagAugmentation)]
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name not in known:
            raise ConfigError(f"data.aug_cfg does not know '{name}'. Choose among {', '.join(known)}.")
        if name in values:
            raise ConfigError(f"data.aug_cfg gives {name} twice. Give it once.")
        values[name] = _numbers(name, value)
    return BagAugmentation(**values)


def _pairs(settings: Mapping[str, Any] | Sequence[str]) -> list[tuple[str, Any]]:
    if isinstance(settings, Mapping):
        return list(settings.items())
    pairs = []
    for word in [settings] if isinstance(settings, str) else settings:
        name, sign, text = str(word).partition("=")
        if not sign:
            raise ConfigError(f"data.aug_cfg has the word '{word}'. Write name=value, such as noise=0.1.")
        try:
            pairs.append((name.strip(), ast.literal_eval(text.strip())))
        except (ValueError, SyntaxError) as error:
            raise ConfigError(f"data.aug_cfg: '{text}' is no value of {name}. Write a number.") from error
    return pairs


def _numbers(name: str, value: Any) -> float | tuple[float, float]:
    """A number; or two where one number stands for both."""
    pair = name == "subsample"
    numbers = list(value) if pair and isinstance(value, list | tuple) else [value]
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise ConfigError(f"data.aug_cfg: {name} is {value!r}. Give a number.")
    if len(numbers) > 2 or not numbers:
        raise ConfigError(f"data.aug_cfg: {name} is {value!r}. Give one number, or the least and the most.")
    return (float(numbers[0]), float(numbers[-1])) if pair else float(numbers[0])


class SpecimenDataset(Dataset[dict[str, Any]]):
    """Bags and reports of specimens. What an item looks like depends on (seed, epoch, specimen) alone.

    Args:
        bags: Where the vectors lie.
        names: The specimens.
        reports: The text of each.
        cutoff: Vectors of a bag at most; of larger ones so many are drawn.
        augmentation: How bags are changed; none draws the same vectors in every epoch, as evaluation needs it.
        seed: Seed of what is drawn.
    """

    def __init__(
        self,
        *,
        bags: Bags,
        names: Sequence[str],
        reports: Sequence[str],
        cutoff: int,
        augmentation: BagAugmentation | None,
        seed: int,
    ) -> None:
        self.bags = bags
        # Arrays: lists of Python objects would be copied into every worker, page by page.
        self.names = np.array(names, dtype=np.str_)
        texts = [report.encode() for report in reports]
        self.texts = np.frombuffer(b"".join(texts), dtype=np.uint8)
        self.ends = np.cumsum([len(text) for text in texts])
        self.cutoff = cutoff
        self.augmentation = augmentation
        self.seed = seed

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """The item for (index, epoch).

        Returns:
            `id`, `features` (vectors, width) of the type in which they are stored or float32, and `report`.
        """
        index, epoch = key
        name = str(self.names[index])
        training = self.augmentation is not None
        rng = item_generator(self.seed, epoch if training else _EVALUATION_EPOCH, name)
        vectors = drawn_vectors(read_bag(self.bags, name), self.cutoff, rng)
        if self.augmentation is not None:
            vectors = augmented(vectors, self.augmentation, rng)
        return {"id": name, "features": torch.from_numpy(vectors), "report": self._report(index)}

    def _report(self, index: int) -> str:
        start = int(self.ends[index - 1]) if index else 0
        return self.texts[start : int(self.ends[index])].tobytes().decode()


def drawn_vectors(vectors: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """So many of the vectors at most, each set of them as likely as any other, in their order.

    Args:
        vectors: (vectors, width).
        most: How many to keep.
        rng: Fixes which.
    """
    if len(vectors) <= most:
        return vectors
    return np.asarray(vectors[np.sort(rng.choice(len(vectors), most, replace=False))])


def augmented(vectors: np.ndarray, augmentation: BagAugmentation, rng: np.random.Generator) -> np.ndarray:
    """Vectors after random changes.

    Args:
        vectors: (vectors, width).
        augmentation: How to change them.
        rng: Fixes the changes.
    """
    least, most = augmentation.subsample
    if least < 1:
        vectors = drawn_vectors(vectors, max(1, round(rng.uniform(least, most) * len(vectors))), rng)
    if augmentation.drop_patches > 0:
        kept = rng.random(len(vectors)) >= augmentation.drop_patches
        kept[rng.integers(len(vectors))] |= not kept.any()
        vectors = vectors[kept]
    if augmentation.noise > 0:
        noise = rng.standard_normal(vectors.shape, np.float32)
        vectors = vectors.astype(np.float32) + np.float32(augmentation.noise) * noise
    return vectors


def padded_batch(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch of items of different sizes.

    Returns:
        `id` list; `features` float32 (batch, vectors, width), zero where a bag has ended; `valid` bool
        (batch, vectors), true where there is a vector; and `report`, a list of texts.
    """
    bags = [item["features"] for item in items]
    sizes = torch.tensor([len(bag) for bag in bags])
    features = _new_batch(len(bags), int(sizes.max()), bags[0].shape[1])
    for row, bag in zip(features, bags, strict=True):
        row[: len(bag)] = bag
        row[len(bag) :] = 0
    return {
        "id": [item["id"] for item in items],
        "features": features,
        "valid": torch.arange(features.shape[1]) < sizes[:, None],
        "report": [item["report"] for item in items],
    }


def _new_batch(*shape: int) -> torch.Tensor:
    """An unfilled float32 tensor; that of a worker lies where the main process reads it, and is not copied there."""
    if get_worker_info() is None:
        return torch.empty(shape)
    size = math.prod(shape) * torch.float32.itemsize
    storage = torch.UntypedStorage._new_shared(size)  # type: ignore[no-untyped-call]  # as torch collates itself
    return torch.empty(0).set_(storage).view(shape)
