"""How the rendered reports are worded: every laboratory has its own words, so that features tell all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from biomass_pl.slide.sample.findings import BENIGN, DIAGNOSES, MALIGNANT, Findings


@dataclass(frozen=True, kw_only=True)
class Wording:
    """Words and sentences of one laboratory.

    Args:
        sentences: Sentences of a report in their order, with the names of findings in braces; an empty one is left out.
        words: What to write for the values of a finding, by its name; other values stand for themselves.
    """

    sentences: Sequence[str]
    words: Mapping[str, Mapping[str, str]]


WORDINGS = {
    "north": Wording(
        sentences=(
            "{site} biopsy with {amount} {diagnosis} in {depth}.",
            "{dignity}, {grade}.",
            "{cells}; {necrosis}.",
        ),
        words={
            "amount": {"little": "focal", "some": "patchy", "much": "extensive"},
            "depth": {"superficial": "upper layers", "deep": "deep layers"},
            "dignity": {"malignant": "malignant tumour", "benign": "benign change"},
            "grade": {"low": "grade one", "middle": "grade two", "high": "grade three", "": "without atypia"},
            "cells": {
                "none": "no inflammation",
                "lymphocytes": "many lymphocytes",
                "neutrophils": "dense neutrophils",
                "eosinophils": "scattered eosinophils",
            },
            "necrosis": {"yes": "necrosis present", "no": "tissue viable"},
        },
    ),
    "south": Wording(
        sentences=(
            "we received tissue of the {site}.",
            "{cells} and {necrosis} were seen.",
            "conclusion: {depth} {diagnosis} of {amount} size, {dignity} and {grade}.",
        ),
        words={
            "amount": {"little": "small", "some": "moderate", "much": "large"},
            "depth": {"superficial": "superficial", "deep": "deeply seated"},
            "grade": {
                "low": "well differentiated",
                "middle": "moderately differentiated",
                "high": "poorly differentiated",
                "": "harmless",
            },
            "cells": {
                "none": "quiet stroma",
                "lymphocytes": "round cells",
                "neutrophils": "pus and abscess",
                "eosinophils": "red granular cells",
            },
            "necrosis": {"yes": "dead tissue", "no": "living tissue"},
        },
    ),
    "harbour": Wording(
        sentences=(
            "{dignity} {diagnosis}, {site}, {depth}.",
            "it fills {amount} of the sample.",
            "{grade}{necrosis}, {cells}.",
        ),
        words={
            "amount": {"little": "one tenth", "some": "a quarter", "much": "half"},
            "depth": {"superficial": "near the surface", "deep": "at the base"},
            "grade": {
                "low": "mild atypia, ",
                "middle": "clear atypia, ",
                "high": "severe atypia, ",
                "": "regular nuclei, ",
            },
            "cells": {
                "none": "calm surroundings",
                "lymphocytes": "chronic infiltrate",
                "neutrophils": "acute infiltrate",
                "eosinophils": "allergic infiltrate",
            },
            "necrosis": {"yes": "necrotic areas", "no": "intact areas"},
        },
    ),
}


def report_of(findings: Findings) -> str:
    """The report of a specimen: every finding of it, in the words of its laboratory."""
    wording = WORDINGS[findings.laboratory]
    values = {
        "site": findings.site,
        "diagnosis": findings.diagnosis,
        "amount": findings.amount,
        "depth": findings.depth,
        "dignity": "malignant" if findings.malignant else "benign",
        "grade": findings.grade or "",
        "cells": findings.cells,
        "necrosis": "yes" if findings.necrosis else "no",
    }
    told = {name: wording.words.get(name, {}).get(value, value) for name, value in values.items()}
    return " ".join(_capitalised(sentence.format(**told)) for sentence in wording.sentences)


def dignity_prompts() -> dict[str, list[str]]:
    """Several prompts for each class of the question whether a specimen is malignant, by the number of the class.

    They name the diagnoses as well, as reports do that say it: a network that compares has met no others.
    """
    benign = ("{}. Benign change, without atypia.", "{}, benign and harmless.", "Benign {}. Regular nuclei.")
    malignant = (
        *("{}. Malignant tumour, grade two.", "{}, malignant and poorly differentiated."),
        "Malignant {}. Clear atypia.",
    )
    classes = {"0": (BENIGN, benign), "1": (MALIGNANT, malignant)}
    return {
        number: [_capitalised(wording.format(name)) for name in diagnoses for wording in forms]
        for number, (diagnoses, forms) in classes.items()
    }


def diagnosis_prompts() -> dict[str, list[str]]:
    """Several prompts for each diagnosis."""
    return {
        name: [f"Biopsy with {name}.", f"Conclusion: {name}.", f"{_capitalised(name)}, it fills the sample."]
        for name in DIAGNOSES
    }


def _capitalised(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
