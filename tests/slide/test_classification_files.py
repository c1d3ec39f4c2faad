"""Classes with prompts, specimens with classes and examples belong together, or are refused by name."""

import json

import pytest

from biomass_pl.errors import ConfigError, DataError
from biomass_pl.slide.classification_files import read_classification_tasks

SPECIMENS = [f"s{number}" for number in range(6)]
PROMPTS = {"0": "benign", "1": ["malignant", "a malignant tumour"]}
LABELS = {"s0": 0, "s1": 1, "s2": "1", "elsewhere": 0}
EXAMPLES = {"1": ["s4"], "0": ["s3", "s5"]}


@pytest.fixture
def read(tmp_path):
    """Reads tasks of which each kind of file is given by its content."""

    def tasks(**contents):
        files = {"prompts": [], "classes": [], "examples": []}
        for kind, found in contents.items():
            for number, content in enumerate(found):
                path = tmp_path / f"{kind}{number}.json"
                path.write_text(json.dumps(content))
                files[kind].append(path)
        return read_classification_tasks(**files, specimens=SPECIMENS)

    return tasks


def test_a_task_has_classes_in_the_order_of_the_prompts_labels_prompts_and_examples(read):
    (task,) = read(prompts=[PROMPTS], classes=[LABELS], examples=[EXAMPLES])
    assert task.classes == ("0", "1")
    assert task.prompts == {"0": ("benign",), "1": ("malignant", "a malignant tumour")}
    assert task.labels == {"s0": "0", "s1": "1", "s2": "1", "elsewhere": "0"}
    assert task.examples == {"1": ("s4",), "0": ("s3", "s5")}


def test_without_prompts_classes_are_those_of_the_examples_and_the_other_way_round(read):
    (task,) = read(classes=[LABELS], examples=[EXAMPLES])
    assert task.classes == ("1", "0") and task.prompts is None
    (task,) = read(classes=[LABELS], prompts=[PROMPTS])
    assert task.classes == ("0", "1") and task.examples is None
    assert read() == []


def test_the_first_files_belong_together_then_the_second(read):
    colours = {"red": "it is red", "blue": "it is blue"}
    first, second = read(prompts=[PROMPTS, colours], classes=[LABELS, {"s0": "blue"}])
    assert first.classes == ("0", "1") and second.classes == ("red", "blue") and second.labels == {"s0": "blue"}


@pytest.mark.parametrize("label", ["text", "ein Text", "1", 1, -3, 2.5, True, False, ""])
def test_labels_are_of_any_kind_as_json_writes_them(label, read):
    name = label if isinstance(label, str) else json.dumps(label)
    (task,) = read(prompts=[{"other": "x", name: "y"}], classes=[{"s1": label}])
    assert task.labels == {"s1": name} and task.classes == ("other", name)


def test_the_files_of_the_sample_are_read(specimen_folders, packed):
    from biomass_pl.slide.specimens import open_specimens

    folder, names = specimen_folders / "hdf5", ("dignity", "diagnosis")
    dignity, diagnosis = read_classification_tasks(
        prompts=[folder / f"zero_shot/{name}_prompts.json" for name in names],
        classes=[folder / f"zero_shot/{name}_classes.json" for name in names],
        examples=[folder / f"few_shot/{name}.json" for name in names],
        specimens=open_specimens(packed).patients,
    )
    assert dignity.classes == ("0", "1") and len(diagnosis.classes) == 8
    assert len(dignity.labels) == len(diagnosis.labels) == 60
    assert all(dignity.labels[name] == label for label, names in dignity.examples.items() for name in names)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"prompts": [PROMPTS]}, r"class_prompt_mapping names 1 file.* and .*specimen_class_mapping 0"),
        ({"prompts": [PROMPTS], "classes": [LABELS] * 2}, "class_prompt_mapping names 1 file.*mapping 2"),
        ({"examples": [EXAMPLES] * 2, "classes": [LABELS]}, r"few_shot\.examples names 2 file.*mapping 1"),
        ({"prompts": [PROMPTS], "classes": [LABELS], "examples": [EXAMPLES] * 2}, "examples names 2"),
        ({"classes": [LABELS]}, "specimen_class_mapping needs"),
    ],
)
def test_there_are_as_many_files_of_each_kind(files, message, read):
    with pytest.raises(ConfigError, match=message):
        read(**files)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"classes": LABELS | {"s3": 2, "s4": "x"}},
            r"classes0\.json has class\(es\) that .*prompts0\.json lacks.*\n  2\n  x$",
        ),
        ({"classes": LABELS | {"s3": 1.0}}, r"lacks.*\n  1\.0$"),
        ({"examples": EXAMPLES | {"2": ["s0"]}}, r"examples0\.json has class\(es\) that .*prompts0.*\n  2$"),
        ({"examples": {"1": ["s4"]}}, r"prompts0\.json has class\(es\) that .*examples0.*\n  0$"),
        ({"prompts": {"1": "x"}}, "fewer than two classes"),
        ({"prompts": {}}, "fewer than two classes"),
        ({"prompts": PROMPTS | {"0": []}}, r"needs a prompt or a list of prompts.*\n  0$"),
        ({"prompts": PROMPTS | {"0": 3}}, r"needs a prompt or a list of prompts.*\n  0$"),
        ({"prompts": PROMPTS | {"1": ["x", None]}}, r"needs a prompt or a list of prompts.*\n  1$"),
        ({"prompts": PROMPTS | {"1": ["x", " "]}}, r"empty prompt.*\n  1$"),
        ({"prompts": ["x", "y"]}, "no JSON object"),
        ({"examples": EXAMPLES | {"0": ["s3", "nowhere"]}}, r"example\(s\) without features.*\n  nowhere$"),
        ({"examples": EXAMPLES | {"0": ["s3", "s4"]}}, r"as an example twice.*\n  s4$"),
        ({"examples": EXAMPLES | {"0": []}}, r"needs a list of specimens.*\n  0$"),
        ({"classes": LABELS | {"s3": None, "s4": [1]}}, r"\n  s3: null\n  s4: \[1\]$"),
    ],
)
def test_what_is_unknown_is_refused_by_name(changed, message, read):
    files = {"prompts": PROMPTS, "classes": LABELS, "examples": EXAMPLES} | changed
    with pytest.raises(DataError, match=message):
        read(**{kind: [content] for kind, content in files.items()})
