"""Splits plain English as the Penn Treebank does, so that scores of texts compare with published ones. No torch.

Captions are usually tokenized by Stanford's PTBTokenizer (https://nlp.stanford.edu/software/tokenizer.html) with lower
case and without punctuation, a Java program. What it does to plain English and measurements is done here by regular
expressions; what it knows of addresses, smileys and rare abbreviations is not.
"""

import re

_PLAIN_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}

_CANNOT = re.compile(r"\b(can)(not)\b", re.IGNORECASE)
_NEGATION = re.compile(r"(?<=\w)(n't)\b", re.IGNORECASE)
_ENDING = re.compile(r"(?<=\w)('(?:s|m|d|re|ve|ll))\b", re.IGNORECASE)

_TOKEN = re.compile(
    r"""
    n't\b | '(?:s|m|d|re|ve|ll)\b                                # cut off by what came before
    | (?<![\w.])(?:[^\W\d_]\.){2,}                               # e.g. i.e. U.S.
    | (?<![\w.])[a-z]\.(?!\w)                                    # an initial
    | \b(?:mr|mrs|ms|dr|prof|st|jr|sr|vs|etc|al|figs?)\.(?!\w)   # abbreviations that keep their point
    | \bno\.(?=\s*\d)
    | (?<![\w.])[-+]?(?:\d*[.,:])?\d+(?:[.,:]\d+)*(?![\w/-]|[.,:]\d)  # 1,000 10:30 .03 -5
    | \d+(?:[.,]\d+)*(?:-\w+(?:[.,]\d+)*)+                       # 5-10, 1.5-2.5, 0.8-mm
    | \d+(?:[.,]\d+)+(?=[^\W\d])                                 # the number of 1.5mm
    | \w+(?:/\w+)+(?![\w-])                                      # and/or, 2/mm2
    | \w+(?:&\w+)+                                               # H&E
    | \w+(?:['-]\w+)*                                            # well-circumscribed, O'Brien
    | [()\[\]{}#$%*+/<=>@\\^_|~&]|[^\w\s.?!,:;'"`\u2026\u2013\u2014-]  # symbols; punctuation is left out
    """,
    re.VERBOSE | re.IGNORECASE,
)


def tokens(text: str) -> list[str]:
    """Words, numbers and symbols of a text, in lower case and without punctuation.

    Args:
        text: Plain English, of any length.

    Returns:
        Brackets as `-lrb-`, `-rrb-` and the like; endings such as `'s` and `n't` on their own.
    """
    plain = text.translate(_PLAIN_QUOTES)
    for pattern, parts in ((_CANNOT, r"\1 \2"), (_NEGATION, r" \1"), (_ENDING, r" \1")):
        plain = pattern.sub(parts, plain)
    found = (match.group().lower() for match in _TOKEN.finditer(plain))
    return [_BRACKETS.get(token, token) for token in found]
