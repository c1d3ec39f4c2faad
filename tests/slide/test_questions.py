"""Questions as a network answers them: by prompts, by examples and by a probe, worked by hand."""

import numpy as np
import pytest

from biomass_pl.slide.classification_files import ClassificationTask
from biomass_pl.slide.questions import answer_columns, answers_to, needed

LABELS = {"s0": "no", "s1": "yes", "s2": "yes", "e0": "no", "e1": "yes"}
PROMPTS = {"no": ("healthy", "nothing"), "yes": ("tumour",)}
EXAMPLES = {"no": ("e0",), "yes": ("e1", "e2")}
OF_PROMPTS = {"healthy": np.array([2.0, 0]), "nothing": np.array([0, 1.0]), "tumour": np.array([-1.0, 0])}
OF_EXAMPLES = {"e0": np.array([0, 3.0]), "e1": np.array([-4.0, 0]), "e2": np.array([0, -1.0])}


def question(prompts=PROMPTS, examples=EXAMPLES) -> ClassificationTask:
    return ClassificationTask(classes=("no", "yes"), labels=LABELS, prompts=prompts, examples=examples)


def answers(*questions: ClassificationTask):
    return answers_to(questions, prompts=OF_PROMPTS, examples=OF_EXAMPLES, scale=2.0)


def test_each_way_to_answer_has_columns_of_its_own():
    image = np.array([[5.0, 0], [0, 0.5]])
    columns = answer_columns(answers(question()), ["s0", "e1"], image)
    assert list(columns) == [
        *("task_0_class", "task_0_prob_no", "task_0_prob_yes"),
        *("fewshot_0_class", "fewshot_0_prob_no", "fewshot_0_prob_yes"),
        *("fewshot_0_probe_prob_no", "fewshot_0_probe_prob_yes"),
    ]
    # The mean direction of `no` is at 45 degrees: cosines .7071 and -1, then .7071 and 0; scaled by 2.
    cosines = np.array([[0.5**0.5, -1], [0.5**0.5, 0]])
    expected = np.exp(2 * cosines) / np.exp(2 * cosines).sum(axis=1, keepdims=True)
    found = np.stack([columns["task_0_prob_no"], columns["task_0_prob_yes"]], axis=1)
    assert found == pytest.approx(expected, rel=1e-6)
    # Examples: `no` lies at 90 degrees, `yes` at 225; the second image is where the example of `no` is.
    assert columns["fewshot_0_prob_no"][1] == pytest.approx(1 / (1 + np.exp(2 * (-(0.5**0.5) - 1))), rel=1e-6)
    assert columns["fewshot_0_probe_prob_no"][1] > 0.5
    assert columns["task_0_class"] == ["no", "yes"]


def test_examples_are_not_asked_about_themselves():
    columns = answer_columns(answers(question()), ["s1", "e0", "e1", "unknown"], np.ones((4, 2)))
    assert columns["task_0_class"] == ["yes", "no", "yes", ""]
    assert columns["fewshot_0_class"] == ["yes", "", "", ""]


def test_questions_are_numbered_and_answered_as_far_as_there_are_files():
    found = answers(question(examples=None), question(prompts=None))
    assert [answer.name for answer in found] == ["task_0", "fewshot_1", "fewshot_1_probe"]
    assert answers() == []
    assert answer_columns([], ["s0"], np.ones((1, 2))) == {}


def test_what_is_needed_is_named_once():
    questions = [question(), question(prompts={"no": ("healthy",), "yes": ("other",)}, examples=None)]
    assert needed(questions, lambda one: one.prompts) == ["healthy", "nothing", "tumour", "other"]
    assert needed(questions, lambda one: one.examples) == ["e0", "e1", "e2"]
