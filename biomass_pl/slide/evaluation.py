"""What a network of slides and reports is asked beside its losses: found among others, taken for classes, read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from biomass_pl.errors import DataError
from biomass_pl.evaluation.bootstrap import Bootstrap
from biomass_pl.slide.captions import caption_texts
from biomass_pl.slide.classification_files import CLASSES, ClassificationTask, read_classification_tasks
from biomass_pl.slide.coca import SlideCaptioner
from biomass_pl.slide.evaluation_settings import FewShotConfig, ZeroShotConfig
from biomass_pl.slide.pairs import IMAGE, TEXT, image_vectors, text_vectors
from biomass_pl.slide.prediction_table import CAPTION, IMAGE_ARRAY, SPECIMEN, TEXT_ARRAY, with_ranks
from biomass_pl.slide.questions import Answer, answer_columns, answers_to, needed
from biomass_pl.slide.scores import specimen_scores
from biomass_pl.slide.tokenizer import ReportTokenizer

ROW, CAPTION_TOKENS = "row", "caption_tokens"
"""What scores need beside vectors: numbers of the specimens among all, and tokens of what was written on them."""


class SpecimenEvaluation:
    """Questions with classes, and scores of held-out specimens.

    Args:
        zero_shot: Questions that prompts answer.
        few_shot: Questions that examples answer.
    """

    def __init__(self, *, zero_shot: ZeroShotConfig, few_shot: FewShotConfig) -> None:
        self.zero_shot = zero_shot
        self.few_shot = few_shot
        self._questions: list[ClassificationTask] = []
        self._answers: list[Answer] = []
        self._items = pd.DataFrame()
        self._rows: dict[str, int] = {}

    @property
    def asks(self) -> bool:
        """Whether there is a question with classes."""
        return bool(
            self.zero_shot.specimen_class_mapping or self.zero_shot.class_prompt_mapping or self.few_shot.examples
        )

    def read(self, data: Any) -> None:
        """Reads the questions, and which specimens there are.

        Args:
            data: The data module.

        Raises:
            ConfigError: There are not as many files of each kind.
            DataError: A file cannot be read, names what is unknown, or tells nothing of any specimen.
        """
        self._items = data.items()
        self._rows = {name: row for row, name in enumerate(self._items[SPECIMEN])}
        placed = {
            "prompts": self.zero_shot.class_prompt_mapping,
            "classes": self.zero_shot.specimen_class_mapping,
            "examples": self.few_shot.examples,
        }
        paths: dict[str, Sequence[Path]] = {
            kind: [data.root / path for path in of_kind] for kind, of_kind in placed.items()
        }
        self._questions = read_classification_tasks(**paths, specimens=self._rows.keys())
        for question, path in zip(self._questions, paths["classes"], strict=True):
            if self._rows.keys().isdisjoint(question.labels):
                raise DataError(f"{path} tells the class of no specimen that there is. Correct {CLASSES}.")

    def prepare(self, network: SlideCaptioner, tokenizer: ReportTokenizer, data: Any) -> None:
        """Makes the vectors of prompts and examples by which a network answers, as it is now.

        Args:
            network: In eval mode, on its device.
            tokenizer: The tokenizer of the network.
            data: The data module, which has the specimens that are examples.
        """
        examples = needed(self._questions, lambda question: question.examples)
        self._answers = answers_to(
            self._questions,
            prompts=text_vectors(network, tokenizer, needed(self._questions, lambda question: question.prompts)),
            examples=image_vectors(network, data.loader_of(examples)) if examples else {},
            scale=float(network.logit_scale.detach().exp()),
        )

    def rows_of(self, names: Sequence[str]) -> Tensor:
        """Numbers of specimens (B,)."""
        return torch.tensor([self._rows[name] for name in names])

    def columns(self, names: Sequence[str], image: np.ndarray) -> dict[str, list[str] | np.ndarray]:
        """True classes and probabilities of specimens by the vectors of their images (B, E)."""
        return answer_columns(self._answers, names, image)

    def scores(self, kept: Mapping[str, np.ndarray], tokenizer: ReportTokenizer) -> dict[str, float]:
        """Scores of all specimens of a validation by their published names.

        Args:
            kept: `row`, and where there are any, `image` and `text` vectors and `caption_tokens`.
            tokenizer: The tokenizer of the network.
        """
        table = self._items.iloc[kept[ROW].astype(int)].reset_index(drop=True).assign(fold=0)
        if IMAGE in kept:
            columns = self.columns(table[SPECIMEN].tolist(), kept[IMAGE])
            table = pd.concat([table, pd.DataFrame(columns)], axis=1)
            table = with_ranks(table, {IMAGE_ARRAY: kept[IMAGE], TEXT_ARRAY: kept[TEXT]})
        if kept[CAPTION_TOKENS].shape[1]:
            table = table.assign(**{CAPTION: caption_texts(tokenizer, kept[CAPTION_TOKENS].astype(int).tolist())})
        return specimen_scores(table, Bootstrap())
