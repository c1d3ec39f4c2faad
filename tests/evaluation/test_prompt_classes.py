"""Zero-shot and few-shot classification: worked by hand, against scikit-learn, and labels of any kind."""

import math

import numpy as np
import pytest
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from biomass_pl.errors import ConfigError, DataError
from biomass_pl.evaluation.bootstrap import Bootstrap
from biomass_pl.evaluation.prompt_classes import (
    ClassPredictions,
    LabelledVectors,
    class_vectors,
    classification_scores,
    classify,
    cosine_head,
    positive_class,
    probe_head,
)

ITEMS = LabelledVectors(
    ids=("s1", "s2", "s3", "s4"),
    vectors=np.array([[2.0, 0], [0, 5], [3, 4], [-1, 0]]),
    labels={"s1": "benign", "s2": "malignant", "s3": "benign", "elsewhere": "malignant"},
)
PROMPTS = {"benign": np.array([[1.0, 0]]), "malignant": np.array([[0, 7.0]])}
PATIENTS = {"s1": "p1", "s2": "p1", "s3": "p2", "s4": "p2"}


def blobs(classes: int, *, items: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = np.arange(items) % classes
    return np.random.default_rng(9).normal(size=(classes, 6))[truth] + generator.normal(size=(items, 6)), truth


def labelled(vectors: np.ndarray, labels: list) -> LabelledVectors:
    ids = [f"s{number}" for number in range(len(vectors))]
    return LabelledVectors(ids=ids, vectors=vectors, labels=dict(zip(ids, labels, strict=True)))


def zero_shot(items: LabelledVectors, prompts: dict, *, scale: float) -> ClassPredictions:
    return classify(items, cosine_head(prompts, scale=scale))


def scores_of(predictions, **settings) -> dict[str, float]:
    patients = {name: name for name in predictions.ids}
    return classification_scores(predictions, patients, Bootstrap(), prefix="task_0_", **settings)


def test_zero_shot_worked_by_hand():
    found = zero_shot(ITEMS, PROMPTS, scale=10.0)
    assert found.ids == ("s1", "s2", "s3") and found.classes == ("benign", "malignant")
    assert found.truth.tolist() == [0, 1, 0]
    # Cosines: 1 and 0; 0 and 1; .6 and .8.
    sure, unsure = 1 / (1 + math.exp(-10)), 1 / (1 + math.exp(2))
    assert found.probabilities == pytest.approx(
        np.array([[sure, 1 - sure], [1 - sure, sure], [unsure, 1 - unsure]]), rel=1e-5
    )
    assert found.records()["s3"] == {
        "true_label": "benign",
        "predicted_label": "malignant",
        "probabilities": pytest.approx([unsure, 1 - unsure], rel=1e-5),
    }


def test_two_class_scores_have_their_published_names():
    scores = scores_of(zero_shot(ITEMS, PROMPTS, scale=10.0))
    # Malignant is answered twice, once rightly; the only malignant one has the highest score.
    assert scores == pytest.approx(
        {"task_0_precision": 0.5, "task_0_recall": 1, "task_0_f1_score": 2 / 3, "task_0_auc_roc": 1}
    )


def test_several_sentences_count_alike_whatever_their_lengths():
    sentences = np.array([[100.0, 0], [0, 0.01]])
    assert class_vectors([sentences, np.array([[0, 3.0]])]) == pytest.approx(np.array([[0.5**0.5, 0.5**0.5], [0, 1]]))


def test_the_order_of_the_prompts_changes_no_score():
    vectors, truth = blobs(2)
    items = labelled(vectors, truth.tolist())
    prompts = {0: vectors[:2], 1: vectors[3:4]}
    turned = {1: vectors[3:4], 0: vectors[:2]}
    expected, found = (scores_of(zero_shot(items, given, scale=3.0)) for given in (prompts, turned))
    assert found == pytest.approx(expected)


def test_labels_may_be_numbers_from_one_up_or_words():
    vectors, truth = blobs(3)
    directions = [vectors[truth == number][:4] for number in range(3)]
    numbers = zero_shot(labelled(vectors, (truth + 1).tolist()), dict(zip("123", directions, strict=True)), scale=5.0)
    words = np.array(["nevus", "Spitz", "in situ"])
    named = zero_shot(labelled(vectors, words[truth].tolist()), dict(zip(words, directions, strict=True)), scale=5.0)
    assert scores_of(numbers) == scores_of(named)
    assert set(scores_of(named)) == {
        f"task_0_{name}" for name in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc_roc")
    }
    area = metrics.roc_auc_score(truth, named.probabilities, multi_class="ovr")
    assert scores_of(named)["task_0_macro_auc_roc"] == pytest.approx(area)
    assert numbers.records()["s0"]["true_label"] == "1" and named.records()["s0"]["true_label"] == "nevus"


def test_a_class_without_held_out_specimens_has_no_say():
    vectors, truth = blobs(3)
    present = truth < 2
    directions = {name: vectors[truth == number][:4] for number, name in enumerate("abc")}
    found = zero_shot(
        labelled(vectors[present], [["a", "b"][number] for number in truth[present]]), directions, scale=5.0
    )
    scores, predicted = scores_of(found), found.probabilities.argmax(axis=1)
    assert scores["task_0_macro_f1"] == pytest.approx(
        metrics.f1_score(truth[present], predicted, labels=[0, 1], average="macro")
    )
    assert scores["task_0_macro_auc_roc"] == pytest.approx(
        np.mean([metrics.roc_auc_score(truth[present] == number, found.probabilities[:, number]) for number in (0, 1)])
    )


def test_held_out_specimens_of_one_class_have_no_area():
    items = LabelledVectors(ids=ITEMS.ids, vectors=ITEMS.vectors, labels={"s1": "benign", "s2": "benign"})
    scores = scores_of(zero_shot(items, PROMPTS, scale=10.0))
    assert math.isnan(scores["task_0_auc_roc"]) and scores["task_0_recall"] == scores["task_0_precision"] == 0


def test_no_labelled_specimen_at_all_has_no_score():
    found = zero_shot(LabelledVectors(ids=ITEMS.ids, vectors=ITEMS.vectors, labels={}), PROMPTS, scale=10.0)
    assert found.records() == {}
    scores = classification_scores(found, PATIENTS, Bootstrap(draws=5), prefix="task_0_")
    assert len(scores) == 16 and all(math.isnan(value) for value in scores.values())


def test_a_vector_that_is_not_finite_leaves_no_score_but_a_record():
    vectors = ITEMS.vectors.copy()
    vectors[0] = math.nan
    found = zero_shot(LabelledVectors(ids=ITEMS.ids, vectors=vectors, labels=ITEMS.labels), PROMPTS, scale=10.0)
    assert found.records()["s1"] == {"true_label": "benign", "predicted_label": None, "probabilities": [None, None]}
    assert all(math.isnan(value) for value in scores_of(found).values())


def test_intervals_are_over_patients():
    found = zero_shot(ITEMS, PROMPTS, scale=10.0)
    scores = classification_scores(found, PATIENTS, Bootstrap(draws=200), prefix="task_3_")
    # Patient p1 has s1 and s2, both right; p2 has s3, taken for malignant. Twice p2: nothing malignant, precision 0.
    assert (scores["task_3_precision_ci_lower"], scores["task_3_precision_ci_upper"]) == (0, 1)
    assert scores["task_3_auc_roc_ci_lower"] == scores["task_3_auc_roc_ci_upper"] == 1


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (("0", "1"), "1"),
        (("2", "1"), "2"),
        (("10", "9"), "10"),
        (("no", "yes"), "yes"),
        (("malignant", "benign"), "malignant"),
    ],
)
def test_the_positive_class_is_the_last_in_order(classes, expected):
    assert positive_class(classes) == expected


def test_the_positive_class_may_be_given():
    found = zero_shot(ITEMS, PROMPTS, scale=10.0)
    scores = scores_of(found, positive="benign")
    assert scores["task_0_precision"] == 1 and scores["task_0_recall"] == 0.5 and scores["task_0_auc_roc"] == 1
    with pytest.raises(ConfigError, match="positive class is 'bad'; give one of benign, malignant"):
        scores_of(found, positive="bad")


def test_few_shot_compares_with_the_mean_of_the_examples():
    support = {"benign": np.array([[2.0, 0], [1, 0]]), "malignant": np.array([[0, 1.0], [0, 3]])}
    found = classify(ITEMS, cosine_head(support, scale=10.0), without={"s1", "unknown"})
    assert found.ids == ("s2", "s3")
    assert found.probabilities == pytest.approx(zero_shot(ITEMS, PROMPTS, scale=10.0).probabilities[1:])


@pytest.mark.parametrize("classes", [2, 3])
def test_a_few_shot_probe_is_logistic_regression_on_unit_vectors(classes):
    vectors, truth = blobs(classes)
    examples, known = blobs(classes, items=15, seed=3)
    support = {number: examples[known == number] for number in range(classes)}
    found = classify(labelled(vectors, truth.tolist()), probe_head(support), without={"s0"})
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (examples, vectors)]
    expected = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(unit[0], known)
    assert found.ids[0] == "s1" and len(found.ids) == 59
    assert found.probabilities == pytest.approx(expected.predict_proba(unit[1])[1:], abs=1e-3)
    assert scores_of(found)


def test_descriptions_that_cannot_work_are_named():
    one = {"benign": PROMPTS["benign"]}
    with pytest.raises(DataError, match="two classes or more, not 1"):
        zero_shot(ITEMS, one, scale=10.0)
    with pytest.raises(DataError, match=r"neither a sentence nor an example(?s:.*)  malignant"):
        probe_head(one | {"malignant": np.empty((0, 2))})
    with pytest.raises(DataError, match=r"classes benign, other are described(?s:.*)  s2: malignant"):
        zero_shot(ITEMS, one | {"other": PROMPTS["malignant"]}, scale=10.0)
