"""Tokens of plain English: those of the published Java program, and properties."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomass_pl.evaluation.text_tokens import tokens

# What edu.stanford.nlp.process.PTBTokenizer of Stanford CoreNLP 3.4.1 prints with -preserveLines -lowerCase, without
# the punctuation that pycocoevalcap 1.2 leaves out.
PUBLISHED = [
    ("Compound nevus, no atypia. Clark level IV.", "compound nevus no atypia clark level iv"),
    (
        "There's no evidence of melanoma; the margins don't show it.",
        "there 's no evidence of melanoma the margins do n't show it",
    ),
    (
        "A well-circumscribed, dome-shaped lesion (3.5 x 2 mm) was seen.",
        "a well-circumscribed dome-shaped lesion -lrb- 3.5 x 2 mm -rrb- was seen",
    ),
    (
        "The patient cannot be re-examined, e.g. by Dr. Smith, i.e. never.",
        "the patient can not be re-examined e.g. by dr. smith i.e. never",
    ),
    (
        "Breslow thickness: 1.2 mm. Mitoses: 2/mm2. Ki-67 index 10%.",
        "breslow thickness 1.2 mm mitoses 2/mm2 ki-67 index 10 %",
    ),
    (
        "H&E stain; S-100 and/or Melan-A positive (+).",
        "h&e stain s-100 and/or melan-a positive -lrb- + -rrb-",
    ),
    ("\"Quoted\" text -- with dashes - and 'single' quotes...", "quoted text with dashes and single quotes"),
    (
        "It costs $5.00, 1,000 cells, 1/2 of them at 10:30 on 5-10 fields.",
        "it costs $ 5.00 1,000 cells 1/2 of them at 10:30 on 5-10 fields",
    ),
    (
        "I'm, you're, we've, he'll, they'd, John's, dogs' isn't won't can't",
        "i 'm you 're we 've he 'll they 'd john 's dogs is n't wo n't ca n't",
    ),
    (
        "approx. 5 cm. vs. 3 cm. No. 5 of the U.S. etc. End",
        "approx 5 cm vs. 3 cm no. 5 of the u.s. etc. end",
    ),
    (
        "pT1b, N0; stage IIA. \u2265 1.0 mm \u2013 ulceration \u2013 absent \u2026 \u03b2-catenin 5\u00b5m 37\u00b0C",
        "pt1b n0 stage iia \u2265 1.0 mm ulceration absent \u03b2-catenin 5\u00b5m 37 \u00b0 c",
    ),
    ("12.5% -5 +3 .5 5. 3-4mm 2x2 1.2.3 T-cell", "12.5 % -5 +3 .5 5 3-4mm 2x2 1.2.3 t-cell"),
    (
        "CD4+ p<0.05 p = .03 (p=0.05) HMB-45/MART-1 A.B. c.f. et al. figure 1a.",
        "cd4 + p < 0.05 p = .03 -lrb- p = 0.05 -rrb- hmb-45 / mart-1 a.b. c.f. et al. figure 1a",
    ),
    (
        "The patient\u2019s nevus isn\u2019t \u201catypical\u201d or \u2018odd\u2019.",
        "the patient 's nevus is n't atypical or odd",
    ),
    (
        "See Fig. 2 and figs. 3. Smith et al. found vs. others, etc. Next.",
        "see fig. 2 and figs. 3 smith et al. found vs. others etc. next",
    ),
    (
        "H&E-stained R&D level/grade in-situ p16/Ki67 SOX10+ MART-1- a+b",
        "h&e stained r&d level/grade in-situ p16/ki67 sox10 + mart-1 a + b",
    ),
    ("A 1.5mm nodule, the 0.8-mm margin.", "a 1.5 mm nodule the 0.8-mm margin"),
    ("The skin,\tleft arm\n\n shows it", "the skin left arm shows it"),
    (
        "O'Brien, ma'am: a [b] {c} ~ @ f # g ^ h * j | k \\ l",
        "o'brien ma'am a -lsb- b -rsb- -lcb- c -rcb- ~ @ f # g ^ h * j | k \\ l",
    ),
]


@pytest.mark.parametrize(("text", "expected"), PUBLISHED)
def test_tokens_are_those_of_the_published_program(text, expected):
    assert tokens(text) == expected.split()


def test_a_range_of_decimal_numbers_is_one_token():
    """The published program makes `1.5-2 .5` of it."""
    assert tokens("1.5-2.5 cm") == ["1.5-2.5", "cm"]


def test_nothing_has_no_tokens():
    assert tokens("") == tokens(" .,;:!?-'\" ... -- \u2014") == []


@given(st.text(max_size=80))
def test_tokens_are_never_empty_nor_hold_a_space_nor_lose_a_letter(text):
    found = tokens(text)
    assert all(token and not any(character.isspace() for character in token) for token in found)
    letters = [character for character in text.lower() if "a" <= character <= "z"]
    plain = [token for token in found if token.strip("-") not in ("lrb", "rrb", "lsb", "rsb", "lcb", "rcb")]
    assert [character for character in "".join(plain) if "a" <= character <= "z"] == letters


@given(st.lists(st.sampled_from(["nevus", "melanoma", "in-situ", "1.2", "mm"]), max_size=20))
def test_words_apart_are_what_they_were(words):
    assert tokens(" ".join(words)) == words


@pytest.mark.parametrize("text", ["1." * 20_000, "a/" * 20_000, "9" * 40_000 + "x", "a-" * 20_000, "'" * 40_000])
def test_long_texts_of_any_kind_take_no_time(text):
    start = time.perf_counter()
    tokens(text)
    assert time.perf_counter() - start < 2
