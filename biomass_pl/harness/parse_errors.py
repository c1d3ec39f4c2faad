"""What jsonargparse says of a wrong setting, in words of the user."""

import re

from biomass_pl.errors import BiomassError, ConfigError

_LONGEST = 400

_NOISE = ("Does not validate against", "- Does not validate against", "Subtypes:", "Errors:", "Given value")
"""Lines that tell of the types of a union, not of the mistake."""

_REPHRASED = (
    (r"the following arguments are required: (.+)", r"nothing says what \1 is; give a recipe: --config FILE"),
    (r"Parser key \"([^\"]+)\":", r"\1:"),
    (r"Problem with given class_path '(?:\w+\.)*(\w+)':", r"\1:"),
    (r"Option '([^']+)' is not accepted", r"there is no setting '\1'"),
    (r"Expected a dot import path string: (\S+)", r"there is no class '\1'"),
    (r"Expected a typing\.Literal\[(.+?)\]\. Got value: (.+)", r"expected one of \1, got '\2'"),
    (r"Expected an? <class '(\w+)'>\. Got value: (.+)", r"expected \1, got '\2'"),
)


def constructor_error(error: ValueError) -> BiomassError:
    """What a class of the configuration refused, out of the wrapping that jsonargparse gives it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BiomassError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return ConfigError(f"{plain(str(error))}. Change the configuration.")


def plain(message: str) -> str:
    """A message of jsonargparse in one line; one that is not known stays as it is, cut where it is long."""
    given = re.search(r"Given value: (.+)", message)
    if given:  # told once, below the types of a union
        message = re.sub(
            r"- (Expected a typing\.Literal.+)", lambda line: f"- {line[1]}. Got value: {given[1]}", message
        )
    if re.search("Given value: .*class_path", message):  # what its class says matters, not that it is no text
        message = re.sub(r"- Expected an? <class '\w+'>$", "", message, flags=re.MULTILINE)
    lines = [line.strip() for line in message.splitlines()]
    kept = [re.sub(r"^- ", "", line) for line in lines if line and not line.startswith(_NOISE)]
    known = [line for line in kept if not re.match(r"Expected (a <class 'NoneType'>|a path but)", line)]
    text = " ".join(known or kept or lines).rstrip(".")
    for pattern, replacement in _REPHRASED:
        text = re.sub(pattern, replacement, text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
