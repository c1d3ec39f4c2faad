"""Questions that are answered without training for them: classes with prompts, specimens with classes, examples."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biomass_pl.errors import ConfigError, DataError, listed
from biomass_pl.slide.json_files import read_json_object

PROMPTS, CLASSES, EXAMPLES = (
    "model.zero_shot.class_prompt_mapping",
    "model.zero_shot.specimen_class_mapping",
    "model.few_shot.examples",
)


@dataclass(frozen=True, kw_only=True)
class ClassificationTask:
    """A question with one right answer for each specimen.

    Args:
        classes: Names of the classes, in the order in which scores are given.
        labels: Class of each specimen that has one.
        prompts: Sentences that stand for each class; none where there are no prompts.
        examples: Specimens to learn each class from; none where there are no examples.
    """

    classes: tuple[str, ...]
    labels: Mapping[str, str]
    prompts: Mapping[str, tuple[str, ...]] | None
    examples: Mapping[str, tuple[str, ...]] | None


def read_classification_tasks(
    *, prompts: Sequence[Path], classes: Sequence[Path], examples: Sequence[Path], specimens: Collection[str]
) -> list[ClassificationTask]:
    """Reads the questions; the first files of all kinds belong together, then the second.

    Args:
        prompts: JSON files of classes and their prompts, each a text or a list of texts; or none.
        classes: JSON files of specimens and their classes, as texts, numbers or booleans, as JSON writes them.
        examples: JSON files of classes and the specimens to learn them from; or none.
        specimens: All specimens that have features.

    Raises:
        ConfigError: There are not as many files of each kind.
        DataError: A file cannot be read, or names what is unknown; lists all of its kind.
    """
    for given, setting in ((prompts, PROMPTS), (examples, EXAMPLES)):
        if given and len(given) != len(classes):
            raise ConfigError(
                f"{setting} names {len(given)} file(s) and {CLASSES} {len(classes)}. Give as many of both: the first "
                "of one belongs to the first of the other."
            )
    if classes and not (prompts or examples):
        raise ConfigError(f"{CLASSES} needs {PROMPTS} or {EXAMPLES} beside it. Give one, or leave it out.")
    return [
        _read_task(
            prompts=prompts[number] if prompts else None,
            classes=path,
            examples=examples[number] if examples else None,
            specimens=specimens,
        )
        for number, path in enumerate(classes)
    ]


def _read_task(
    *, prompts: Path | None, classes: Path, examples: Path | None, specimens: Collection[str]
) -> ClassificationTask:
    of_class = None if prompts is None else _read_prompts(prompts)
    to_learn_from = None if examples is None else _read_examples(examples, specimens)
    labels = _read_labels(classes)
    source, known = (prompts, of_class) if of_class is not None else (examples, to_learn_from or {})
    if len(known) < 2:
        raise DataError(f"{source} has fewer than two classes; there is nothing to tell apart. Add the others.")
    _refuse(sorted(set(labels.values()) - set(known)), f"{classes} has class(es) that {source} lacks")
    if of_class is not None and to_learn_from is not None:
        _refuse(sorted(set(to_learn_from) - set(of_class)), f"{examples} has class(es) that {prompts} lacks")
        _refuse(sorted(set(of_class) - set(to_learn_from)), f"{prompts} has class(es) that {examples} lacks")
    return ClassificationTask(classes=tuple(known), labels=labels, prompts=of_class, examples=to_learn_from)


def _read_prompts(path: Path) -> dict[str, tuple[str, ...]]:
    content = _texts_of_classes(path, PROMPTS, "a prompt or a list of prompts")
    _refuse([name for name, texts in content.items() if not all(map(str.strip, texts))], f"{path} has an empty prompt")
    return content


def _read_examples(path: Path, specimens: Collection[str]) -> dict[str, tuple[str, ...]]:
    content = _texts_of_classes(path, EXAMPLES, "a list of specimens")
    counts = Counter(name for names in content.values() for name in names)
    _refuse([name for name, count in counts.items() if count > 1], f"{path} has specimen(s) as an example twice")
    _refuse([name for name in counts if name not in specimens], f"{path} has example(s) without features")
    return content


def _texts_of_classes(path: Path, setting: str, what: str) -> dict[str, tuple[str, ...]]:
    content = read_json_object(path, setting=setting)
    texts = {name: [value] if isinstance(value, str) else value for name, value in content.items()}
    wrong = [
        name
        for name, values in texts.items()
        if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values)
    ]
    _refuse(wrong, f"{path} needs {what} for each class, which these lack")
    return {name: tuple(values) for name, values in texts.items()}


def _read_labels(path: Path) -> dict[str, str]:
    content = read_json_object(path, setting=CLASSES)
    wrong = [
        f"{name}: {json.dumps(label)}" for name, label in content.items() if not isinstance(label, str | int | float)
    ]
    _refuse(wrong, f"{path} needs a text, a number, true or false as the class of each specimen")
    return {name: label_text(label) for name, label in content.items()}


def label_text(label: Any) -> str:
    """The name of a class, for which a number or boolean stands as JSON writes it."""
    return label if isinstance(label, str) else json.dumps(label)


def _refuse(names: list[str], what: str) -> None:
    if names:
        raise DataError(f"{what}. Correct the file(s):\n{listed(names)}")
