"""BioGPT's own tokenizer: words as Moses splits them, and byte pairs of their letters."""

import json
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from biomass_pl.errors import RunError, WeightsError
from biomass_pl.extras import imported
from biomass_pl.slide.biogpt_files import file_in, read_json, read_text
from biomass_pl.slide.biogpt_settings import PACKAGES
from biomass_pl.slide.tokenizer import BOS, EOS, PAD, UNK, ReportTokenizer

KIND = "biogpt"
"""What its JSON says it is."""

_REMEMBERED = 2**14
"""Texts whose tokens are kept."""

_SPECIAL_TOKENS = {"<s>": BOS, "<pad>": PAD, "</s>": EOS, "<unk>": UNK}
"""BioGPT's special tokens, in the order of its own ids, and their ids here: the first two change places."""


class BioGptReportTokenizer(ReportTokenizer):
    """The tokenizer of the `transformers` library, between the special tokens of this package.

    As published, texts begin with BOS, where BioGPT itself was trained with EOS at the beginning. Blanks between words
    and marks come back as Moses thinks they should be.

    Args:
        vocabulary: BioGPT's tokens and their ids, as in its `vocab.json`.
        merges: What is in its `merges.txt`.
        max_length: Tokens that a text is cut to, BOS and EOS included.

    Raises:
        ConfigError: A package that it needs is not installed.
        ValueError: The vocabulary is not that of a BioGPT.
    """

    def __init__(self, *, vocabulary: Mapping[str, int], merges: str, max_length: int) -> None:
        _check(vocabulary, merges, max_length)
        imported("sacremoses", title="sacremoses", package=PACKAGES)
        kind: Any = imported("transformers", title="transformers", package=PACKAGES).BioGptTokenizer
        with tempfile.TemporaryDirectory() as name:  # it takes nothing but files
            words, pairs = Path(name) / "vocab.json", Path(name) / "merges.txt"
            words.write_text(json.dumps({**vocabulary, **_SPECIAL_TOKENS}), encoding="utf-8")
            pairs.write_text(merges, encoding="utf-8")
            self._tokenizer = kind(vocab_file=str(words), merges_file=str(pairs))
        # Moses takes milliseconds for a report, and every epoch asks for the same ones.
        self._ids = lru_cache(maxsize=_REMEMBERED)(self._ids_of)
        self._vocabulary = dict(vocabulary)
        self._merges = merges
        self.vocab_size = len(vocabulary)
        self.max_length = max_length

    @classmethod
    def from_folder(cls, folder: Path, *, max_length: int) -> Self:
        """The tokenizer of `vocab.json` and `merges.txt`.

        Args:
            folder: Where they are.
            max_length: Tokens that a text is cut to.

        Raises:
            ConfigError: A package that it needs is not installed.
            WeightsError: A file is not there, or not that of a BioGPT.
        """
        words, pairs = file_in(folder, "vocab.json"), file_in(folder, "merges.txt")
        try:
            return cls(vocabulary=read_json(words), merges=read_text(pairs), max_length=max_length)
        except ValueError as error:
            raise WeightsError(
                f"{words} and {pairs.name} are not those of BioGPT ({error}). Download both again."
            ) from error

    @classmethod
    def from_json(cls, text: str, *, source: str) -> Self:
        """The tokenizer that `to_json` described, as in the base class."""
        try:
            stored = json.loads(text)
            return cls(vocabulary=stored["vocabulary"], merges=stored["merges"], max_length=stored["max_length"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RunError(
                f"The tokenizer in {source} cannot be read ({error}). Use an undamaged copy of the run."
            ) from error

    def to_json(self) -> str:
        """Vocabulary and merges, so that the folder is needed no more."""
        stored = {"kind": KIND, "max_length": self.max_length, "vocabulary": self._vocabulary, "merges": self._merges}
        return json.dumps(stored)

    def encode(self, text: str) -> list[int]:
        """BOS, the tokens of a report or prompt, EOS; letters that BioGPT never saw are unknown."""
        return [BOS, *self._ids(text), EOS]

    def decode(self, ids: list[int]) -> str:
        """The text of tokens, without the special ones."""
        pieces = self._tokenizer.convert_ids_to_tokens([token for token in ids if token > UNK])
        text: str = self._tokenizer.convert_tokens_to_string(pieces)
        return text

    def _ids_of(self, text: str) -> tuple[int, ...]:
        # Characters such as "</s>" in a report are text.
        pieces = self._tokenizer.tokenize(text, split_special_tokens=True)
        return tuple(self._tokenizer.convert_tokens_to_ids(pieces)[: self.max_length - 2])


def _check(vocabulary: Mapping[str, int], merges: str, max_length: int) -> None:
    """Refuses what would be read as something else.

    Raises:
        ValueError: Says what is wrong.
    """
    special = {token: vocabulary.get(token) for token in _SPECIAL_TOKENS}
    if list(special.values()) != list(range(len(_SPECIAL_TOKENS))):
        msg = f"the ids of its special tokens are {special}"
        raise ValueError(msg)
    ids = [number for number in vocabulary.values() if type(number) is int]
    if sorted(ids) != list(range(len(vocabulary))):
        msg = "the ids are not 0, 1, 2 and so on"
        raise ValueError(msg)
    if not merges.strip():
        msg = "there are no merges"
        raise ValueError(msg)
    if max_length < len([BOS, EOS]):
        msg = f"texts of {max_length} tokens hold nothing"
        raise ValueError(msg)
