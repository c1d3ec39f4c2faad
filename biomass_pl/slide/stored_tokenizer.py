"""The tokenizer of a checkpoint, whichever kind it is."""

import json

from biomass_pl.slide.biogpt_tokenizer import KIND, BioGptReportTokenizer
from biomass_pl.slide.tokenizer import BytePairTokenizer, ReportTokenizer


def stored_tokenizer(text: str, *, source: str) -> ReportTokenizer:
    """The tokenizer that `ReportTokenizer.to_json` described.

    Args:
        text: The JSON.
        source: Where it comes from, such as the path of a checkpoint, for messages.

    Raises:
        ConfigError: A package that it needs is not installed.
        RunError: It cannot be read.
    """
    try:
        content = json.loads(text)
    except ValueError:
        content = None  # what is wrong with it is told below
    is_biogpt = isinstance(content, dict) and content.get("kind") == KIND
    kind: type[ReportTokenizer] = BioGptReportTokenizer if is_biogpt else BytePairTokenizer
    return kind.from_json(text, source=source)
