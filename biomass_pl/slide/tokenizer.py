"""Tokens of reports and prompts, and a byte-pair tokenizer that learns them from training reports, without download."""

import abc
import hashlib
from collections.abc import Iterable
from typing import Any, Self

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from biomass_pl.errors import ConfigError, DataError, RunError, WeightsError

PAD, BOS, EOS, UNK = range(4)
"""Ids of the special tokens: padding, beginning and end of a text, and the unknown."""

_SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")

SMALLEST_VOCABULARY = len(_SPECIAL_TOKENS) + 256
"""The special tokens and one token for each byte, so that any text can be encoded."""


class ReportTokenizer(abc.ABC):
    """Texts as tokens between BOS and EOS, and back; the same for reports and prompts.

    Attributes:
        vocab_size: Number of different tokens.
        max_length: Tokens that a text is cut to, BOS and EOS included.
    """

    vocab_size: int
    max_length: int

    @classmethod
    @abc.abstractmethod
    def from_json(cls, text: str, *, source: str) -> Self:
        """The tokenizer that `to_json` described.

        Args:
            text: What `to_json` gave.
            source: Where it comes from, such as the path of a checkpoint, for the message of an error.

        Raises:
            RunError: It cannot be read, or is another kind of tokenizer.
        """

    @abc.abstractmethod
    def to_json(self) -> str:
        """All of it, to be kept with a checkpoint."""

    @abc.abstractmethod
    def encode(self, text: str) -> list[int]:
        """BOS, the tokens of a report or prompt, EOS; a long text loses its last tokens, never its EOS."""

    @abc.abstractmethod
    def decode(self, ids: list[int]) -> str:
        """The text of tokens, without the special ones."""

    @property
    def fingerprint(self) -> str:
        """A hash that tokenizers share only if they encode every text alike."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def check_fits(
        self, *, vocab_size: int, context_length: int, fingerprint: str | None = None, source: str = "the network"
    ) -> None:
        """Refuses weights that were trained with other tokens.

        Args:
            vocab_size: Number of tokens that the network knows.
            context_length: Number of positions that the network knows.
            fingerprint: Of the tokenizer that the weights were trained with; None if that is not known.
            source: Where the weights come from, for the message.

        Raises:
            WeightsError: The network knows another number of tokens or fewer positions, or learned other tokens.
        """
        advice = "Use the tokenizer that is stored with the weights, or train the network anew."
        if vocab_size != self.vocab_size:
            raise WeightsError(
                f"The tokenizer has {self.vocab_size} tokens, but {source} was made for {vocab_size}. {advice}"
            )
        if self.max_length > context_length:
            raise WeightsError(
                f"The tokenizer cuts texts to {self.max_length} tokens, but {source} has only {context_length} "
                f"positions. Cut texts to {context_length} tokens, or choose a network with more positions."
            )
        if fingerprint is not None and fingerprint != self.fingerprint:
            raise WeightsError(f"The weights of {source} were trained with another tokenizer. {advice}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self), self.to_json())


class BytePairTokenizer(ReportTokenizer):
    """Byte pairs of the `tokenizers` library.

    Args:
        tokenizer: What `train_tokenizer` makes.
        source: Where it comes from, for the message of an error.

    Raises:
        RunError: It is another kind of tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer, *, source: str) -> None:
        ids = tuple(tokenizer.token_to_id(token) for token in _SPECIAL_TOKENS)
        limit: dict[str, Any] | None = tokenizer.truncation
        if ids != (PAD, BOS, EOS, UNK) or limit is None or tokenizer.encode("").ids != [BOS, EOS]:
            raise RunError(
                f"The tokenizer in {source} does not put texts between the special tokens that the networks expect. "
                "Use one that was trained by this package."
            )
        # A report that contains the characters "<eos>" does not end there. The library does not store this setting.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self.vocab_size: int = tokenizer.get_vocab_size()
        self.max_length: int = limit["max_length"]

    @classmethod
    def from_json(cls, text: str, *, source: str) -> Self:
        """The tokenizer that `to_json` described, as in the base class."""
        try:
            tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # the library raises no kind of its own
            raise RunError(
                f"The tokenizer in {source} cannot be read ({error}). Use an undamaged copy of the run."
            ) from error
        return cls(tokenizer, source=source)

    def to_json(self) -> str:
        """All of it as the JSON of the `tokenizers` library."""
        text: str = self._tokenizer.to_str()
        return text

    def encode(self, text: str) -> list[int]:
        """BOS, the tokens of a report or prompt, EOS; none of them is unknown."""
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of tokens, without the special ones."""
        text: str = self._tokenizer.decode(ids)
        return text


def train_tokenizer(reports: Iterable[str], *, vocab_size: int, max_length: int) -> BytePairTokenizer:
    """A byte-pair tokenizer (Sennrich et al. 2016) over bytes, whose words are those of the reports.

    Args:
        reports: Texts to learn from; only those of the training split. Their order does not matter.
        vocab_size: The most tokens it may have; few reports may give fewer.
        max_length: Tokens that a text is cut to, BOS and EOS included.

    Returns:
        The tokenizer; the same reports always give the same.

    Raises:
        ConfigError: The vocabulary cannot hold a token for each byte, or a text cannot hold anything.
        DataError: There is no report.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise ConfigError(
            f"A vocabulary of {vocab_size} tokens is too small: the special tokens and single bytes are "
            f"{SMALLEST_VOCABULARY}. Give a larger vocab_size."
        )
    if max_length < 3:
        raise ConfigError(f"max_length: {max_length} leaves a text nothing between BOS and EOS. Give 3 or more.")
    texts = [report for report in reports if report.strip()]
    if not texts:
        raise DataError("There is no report with any text to train a tokenizer on. Check the file of reports.")
    tokenizer = Tokenizer(models.BPE(unk_token=_SPECIAL_TOKENS[UNK]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(_SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_SPECIAL_TOKENS[BOS]} $A {_SPECIAL_TOKENS[EOS]}",
        special_tokens=[(_SPECIAL_TOKENS[BOS], BOS), (_SPECIAL_TOKENS[EOS], EOS)],
    )
    tokenizer.enable_truncation(max_length=max_length)
    return BytePairTokenizer(tokenizer, source="this run")


def _unpickled(kind: type[ReportTokenizer], text: str) -> ReportTokenizer:
    return kind.from_json(text, source="another process")
