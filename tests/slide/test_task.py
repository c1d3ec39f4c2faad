"""Training of slides and reports, seen from the batch to the logged score."""

import json
import math
import pickle
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch.nn import functional

from biomass_pl.errors import BiomassError, ConfigError, DataError, RunError, WeightsError
from biomass_pl.evaluation.bootstrap import Bootstrap
from biomass_pl.slide.data import SlideDataModule
from biomass_pl.slide.evaluation_settings import CaptionsConfig, EvaluationConfig, FewShotConfig, ZeroShotConfig
from biomass_pl.slide.prediction_table import IMAGE_ARRAY, TEXT_ARRAY
from biomass_pl.slide.report import SlideReport
from biomass_pl.slide.scores import specimen_scores
from biomass_pl.slide.task import SlideCaptioning
from biomass_pl.slide.token_choice import GenerationConfig
from biomass_pl.slide.tokenizer import PAD, train_tokenizer
from biomass_pl.training.adamw import AdamWConfig
from biomass_pl.training.image_text_loss import ImageTextLoss
from biomass_pl.training.step_schedule import StepSchedule
from tests.slide.conftest import slide_module

REPORTS = ["Skin biopsy with cyst.", "Colon, sarcoma, grade two. Dead tissue.", "Lung biopsy.", "Liver with cyst."]
NAMES = ("dignity", "diagnosis")
ZERO_SHOT = ZeroShotConfig(
    class_prompt_mapping=tuple(Path(f"zero_shot/{name}_prompts.json") for name in NAMES),
    specimen_class_mapping=tuple(Path(f"zero_shot/{name}_classes.json") for name in NAMES),
)
FEW_SHOT = FewShotConfig(examples=tuple(Path(f"few_shot/{name}.json") for name in NAMES))
SHORT = GenerationConfig(max_seq_len=12, min_seq_len=3, top_k=1)


def unbuilt(**settings) -> SlideCaptioning:
    """A task before its training."""
    pl.seed_everything(0, verbose=False)
    quick = {"vocab_size": 300, "optim": AdamWConfig(lr=1e-3), "scheduler": StepSchedule(warmup=0)}
    return SlideCaptioning(**{**quick, **settings})


def built(width: int = 6, seed: int = 0, **settings) -> SlideCaptioning:
    """A task for vectors of a small width, its network made for the tokens of a few reports."""
    task = unbuilt(**settings)
    task.tokenizer = train_tokenizer(REPORTS, vocab_size=300, max_length=task.config.text.context_length)
    task.input_dim, task.seed = width, seed
    task.configure_model()
    return task


def batch_of(*sizes: int, reports: list[str] | None = None, width: int = 6) -> dict:
    """Bags of so many random vectors with a report each."""
    generator = torch.Generator().manual_seed(len(sizes))
    valid = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
    features = torch.randn(len(sizes), max(sizes), width, generator=generator) * valid[..., None]
    return {
        "id": [f"s{number}" for number in range(len(sizes))],
        "features": features,
        "valid": valid,
        "report": reports or REPORTS[: len(sizes)],
    }


def trainer(folder: Path, **settings) -> pl.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return pl.Trainer(
        **{"max_epochs": 1, "logger": False, "default_root_dir": folder, "num_sanity_val_steps": 0, **quiet, **settings}
    )


def fitted(task: SlideCaptioning, data: SlideDataModule, folder: Path, **settings) -> dict[str, float]:
    """What the last epoch of a training logs."""
    fit = trainer(folder, **settings)
    fit.fit(task, data)
    return {name: float(value) for name, value in fit.callback_metrics.items()}


def predicted(task: SlideCaptioning, data: SlideDataModule) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Table and arrays of the held-out specimens."""
    data.select("held_out")
    outputs = trainer(Path()).predict(task, data)
    parts = [pd.DataFrame({"specimen_id": output.ids, **output.columns}) for output in outputs]
    arrays = {name: torch.cat([output.arrays[name] for output in outputs]).numpy() for name in outputs[0].arrays}
    table = pd.concat(parts, ignore_index=True).merge(data.items(), on="specimen_id", validate="one_to_one")
    return table.assign(fold=data.split.fold), arrays


# One batch, by hand


def test_a_step_is_the_weighted_sum_of_both_losses():
    task = built(loss=ImageTextLoss(contrastive_weight=0.5, caption_weight=3.0)).eval()
    batch = batch_of(4, 2, 3)
    output = task.step(batch)
    tokens = [task.tokenizer.encode(report) for report in batch["report"]]
    vectors, nll, count = {"image": [], "text": []}, 0.0, 0
    for row, text in enumerate(tokens):  # one specimen at a time, without any padding
        ids = torch.tensor([text])
        valid = torch.ones_like(ids, dtype=torch.bool)
        size = int(batch["valid"][row].sum())
        image = task.network.encode_image(
            batch["features"][row : row + 1, :size], torch.ones(1, size, dtype=torch.bool)
        )
        encoding = task.network.encode_text(ids, valid)
        logits = task.network.decode(encoding.states, valid, image.memory)
        nll += functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="sum").item()
        count += len(text) - 1
        for name, vector in (("image", image.embedding), ("text", encoding.embedding)):
            vectors[name].append(functional.normalize(vector[0], dim=0))
    similarity = torch.stack(vectors["image"]) @ torch.stack(vectors["text"]).T / 0.07
    own = torch.arange(3)
    contrastive = (functional.cross_entropy(similarity, own) + functional.cross_entropy(similarity.T, own)) / 2
    assert list(output.losses) == ["contrastive", "caption"]
    assert output.losses["contrastive"].item() == pytest.approx(0.5 * contrastive.item(), rel=1e-4)
    assert output.losses["caption"].item() == pytest.approx(3 * nll / count, rel=1e-4)
    assert output.measures["scale"].item() == pytest.approx(1 / 0.07)


@pytest.mark.parametrize(
    ("settings", "losses", "objective", "arrays"),
    [
        ({}, ["contrastive", "caption"], "val/loss", True),
        ({"loss": ImageTextLoss(siglip=True)}, ["contrastive", "caption"], "val/loss", True),
        ({"name": "clip"}, ["contrastive"], "val/image_to_text_mean_rank", True),
        ({"name": "lm"}, ["caption"], "val/loss", False),
        ({"loss": ImageTextLoss(contrastive_weight=0)}, ["caption"], "val/loss", True),
        ({"loss": ImageTextLoss(caption_weight=0)}, ["contrastive"], "val/image_to_text_mean_rank", True),
    ],
    ids=str,
)
def test_a_network_learns_by_the_losses_that_it_has(settings, losses, objective, arrays):
    task = built(**settings)
    output = task.step(batch_of(3, 2))
    assert list(output.losses) == losses and all(torch.isfinite(loss) for loss in output.losses.values())
    assert (task.objective.name, task.objective.mode) == (objective, "min")
    assert task.report.uses_arrays == arrays and ("contrastive" in losses) == ("scale" in output.measures)
    task.evaluation.prepare(task.network, task.tokenizer, None)
    assert bool(task.eval().predict_step(batch_of(3, 2)).arrays) == arrays


@pytest.mark.parametrize("siglip", [False, True])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(siglip):
    gradients = []
    for parts in (1, 2, 3, 9):
        task = built(loss=ImageTextLoss(siglip=siglip), accum_freq=parts).double()
        batch = batch_of(5, 1, 3, 2)
        batch["features"] = batch["features"].double()
        sum(task.step(batch).losses.values()).backward()
        gradients.append({name: weight.grad for name, weight in task.network.named_parameters()})
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(other[name], gradient, rtol=1e-6, atol=1e-12)


def test_nothing_but_vectors_and_words_changes_a_prediction():
    task = built(captions=CaptionsConfig(enabled=True), generation=SHORT).eval()
    task.evaluation.prepare(task.network, task.tokenizer, None)
    alone, together = batch_of(4), batch_of(4, 9)
    together["features"][0, :4] = alone["features"][0, torch.tensor([2, 0, 3, 1])]
    one, both = task.predict_step(alone), task.predict_step(together)
    for name in (IMAGE_ARRAY, TEXT_ARRAY):
        torch.testing.assert_close(one.arrays[name][0], both.arrays[name][0], atol=1e-5, rtol=1e-5)
    assert one.columns["caption"][0] == both.columns["caption"][0]


def test_a_drawn_report_depends_on_seed_and_specimen_alone():
    settings = {"captions": CaptionsConfig(enabled=True), "generation": GenerationConfig(max_seq_len=20, top_k=50)}
    task, batch = built(**settings).eval(), batch_of(4, 4, 4)
    task.evaluation.prepare(task.network, task.tokenizer, None)
    batch["features"][:] = batch["features"][0]
    found = task.predict_step(batch).columns["caption"]
    assert len(set(found)) == 3  # equal features, other names
    turned = {name: value.flip(0) if isinstance(value, torch.Tensor) else value[::-1] for name, value in batch.items()}
    torch.manual_seed(99)
    assert task.predict_step(turned).columns["caption"] == found[::-1]
    task.seed = 1
    assert task.predict_step(batch).columns["caption"] != found


# Training


def test_the_rate_decay_and_momenta_are_as_set(specimen_folders, tmp_path):
    task = unbuilt(
        optim=AdamWConfig(lr=1e-3, beta1=0.8, wd=0.3), scheduler=StepSchedule(warmup=2, name="const"), accum_freq=2
    )
    fit = trainer(tmp_path)
    fit.fit(task, slide_module(specimen_folders))
    decay, no_decay = fit.optimizers[0].param_groups
    assert decay["weight_decay"] == 0.3 and no_decay["weight_decay"] == 0 and decay["betas"] == (0.8, 0.999)
    assert decay["lr"] == no_decay["lr"] == pytest.approx(1e-3) and fit.callback_metrics["train/lr"] == pytest.approx(
        1e-3
    )
    assert {"train/loss", "train/loss_contrastive", "train/loss_caption", "train/scale"} <= fit.callback_metrics.keys()


@pytest.mark.parametrize(("start", "end"), [(20.0, math.log(100)), (-3.0, 0.0)])
def test_the_scale_of_similarities_stays_within_1_and_100(start, end, specimen_folders, tmp_path):
    task, data = unbuilt(), slide_module(specimen_folders)
    task.set_up_for(data)
    task.configure_model()
    with torch.no_grad():
        task.network.logit_scale.fill_(start)
    fitted(task, data, tmp_path, limit_train_batches=1, limit_val_batches=1)
    assert task.network.logit_scale.item() == pytest.approx(end)


class Watched(SlideCaptioning):
    """Notes in each training step which modules are in training mode."""

    def step(self, batch):
        if self.training:
            self.modes = {name: module.training for name, module in self.network.named_modules()}
        return super().step(batch)


def test_locked_parts_neither_learn_nor_drop_out(specimen_folders, tmp_path):
    pl.seed_everything(0, verbose=False)
    task = Watched(vocab_size=300, lock_image=True, lock_text=True, lock_text_unlocked_layers=1)
    data = slide_module(specimen_folders)
    task.set_up_for(data)
    task.configure_model()
    task.train()
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    fitted(task, data, tmp_path, max_epochs=2, limit_val_batches=1)
    changed = {name for name, value in task.network.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith("image.") for name in changed)
    text = {name for name in changed if name.startswith("text.")}
    norms = [name for name, module in task.network.named_modules() if isinstance(module, torch.nn.LayerNorm)]
    # Its last group is the pooler; of what is locked only layer normalisation learns, which was not locked.
    assert text and all(name.startswith("text.pooler.") or name.rpartition(".")[0] in norms for name in text)
    assert any(name.startswith("decoder.") for name in changed)
    modes = task.modes
    assert not modes["image"] and not modes["text.transformer.layers.0"] and modes["decoder"] and modes["text.pooler"]


def test_the_tokenizer_knows_the_training_reports_alone(specimen_folders):
    tokenizers = []
    for fold in (0, 1):
        data, task = slide_module(specimen_folders, fold=fold), unbuilt(vocab_size=400)
        task.set_up_for(data)
        items = data.items()
        trained = items["report"][~data.split.held_out(items["specimen_id"])]
        assert sorted(data.training_reports()) == sorted(trained) and len(trained) < len(items)
        expected = train_tokenizer(trained, vocab_size=400, max_length=256)
        assert task.tokenizer.to_json() == expected.to_json()
        tokenizers.append(task.tokenizer.to_json())
    assert tokenizers[0] != tokenizers[1]


@pytest.fixture(scope="module")
def asked(specimen_folders, tmp_path_factory) -> tuple[SlideCaptioning, SlideDataModule, dict[str, float]]:
    """A task with questions and captions, its data, and what its two epochs logged last."""
    task = unbuilt(
        zero_shot=ZERO_SHOT,
        few_shot=FEW_SHOT,
        captions=CaptionsConfig(enabled=True, every_n_epochs=2),
        generation=SHORT,
    )
    data = slide_module(specimen_folders)
    logged = fitted(task, data, tmp_path_factory.mktemp("asked"), max_epochs=2)
    return task, data, logged


def test_the_logged_scores_are_those_of_the_table_of_predictions(asked):
    task, data, logged = asked
    table, arrays = predicted(task, data)
    expected = specimen_scores(task.report.with_array_columns(table, arrays), Bootstrap())
    kinds = ("image_to_text_R@1", "text_to_image_mean_rank", "task_0_auc_roc", "task_1_macro_f1", "bleu4", "rouge")
    assert set(kinds) | {"fewshot_0_auc_roc", "fewshot_1_probe_accuracy"} <= expected.keys()
    for name, value in expected.items():
        assert logged[f"val/{name}"] == pytest.approx(value, abs=1e-6), name


def test_classes_are_told_as_the_prompts_and_examples_say(asked):
    task, data, _ = asked
    table, arrays = predicted(task, data)
    image = arrays[IMAGE_ARRAY] / np.linalg.norm(arrays[IMAGE_ARRAY], axis=1, keepdims=True)
    prompts = json.loads((data.root / ZERO_SHOT.class_prompt_mapping[1]).read_text())
    examples = json.loads((data.root / FEW_SHOT.examples[1]).read_text())
    labels = json.loads((data.root / ZERO_SHOT.specimen_class_mapping[1]).read_text())
    centres = []
    for texts in prompts.values():
        vectors = []
        for text in texts:
            ids = torch.tensor([task.tokenizer.encode(text)])
            vectors.append(functional.normalize(task.network.encode_text(ids, ids != PAD).embedding[0], dim=0))
        centres.append(functional.normalize(torch.stack(vectors).mean(dim=0), dim=0).detach().numpy())
    logits = task.network.logit_scale.exp().item() * image @ np.stack(centres).T
    expected = torch.from_numpy(logits).softmax(dim=1).numpy()
    columns = [f"task_1_prob_{label}" for label in prompts]
    assert table[columns].to_numpy() == pytest.approx(expected, abs=1e-4)
    assert table["task_1_class"].tolist() == [labels[name] for name in table["specimen_id"]]
    held_out = set(table["specimen_id"])
    used = {name for names in examples.values() for name in names} & held_out
    left_out = set(table["specimen_id"][table["fewshot_1_class"] == ""])
    assert used and left_out == used and (table["fewshot_1_probe_prob_cyst"].between(0, 1)).all()


def test_captions_are_written_where_they_are_due(specimen_folders, tmp_path):
    class Log(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            seen.append(float(trainer.callback_metrics.get("val/bleu4", -1)))

    seen: list[float] = []
    task = unbuilt(captions=CaptionsConfig(enabled=True, every_n_epochs=2), generation=SHORT)
    small = {"limit_train_batches": 1, "limit_val_batches": 1}
    fitted(task, slide_module(specimen_folders), tmp_path, max_epochs=5, callbacks=[Log()], **small)
    first, *others = seen
    assert first == -1 and [math.isnan(value) for value in others] == [False, True, False, False]
    seen.clear()
    fitted(unbuilt(), slide_module(specimen_folders), tmp_path, callbacks=[Log()], **small)
    assert seen == [-1]


def test_nothing_is_validated_in_the_grace_period(specimen_folders, tmp_path):
    class Log(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            seen.append({name: float(value) for name, value in trainer.callback_metrics.items() if "val/" in name})

    seen: list[dict[str, float]] = []
    settings = {"limit_train_batches": 1, "limit_val_batches": 1, "max_epochs": 3, "callbacks": [Log()]}
    task = unbuilt(eval=EvaluationConfig(grace_period=2))
    fitted(task, slide_module(specimen_folders), tmp_path, **settings)
    for epoch in seen[:2]:
        assert list(epoch) == [task.objective.name] and math.isnan(epoch[task.objective.name])
    assert math.isfinite(seen[2]["val/loss"]) and math.isfinite(seen[2]["val/image_to_text_R@1"])


def test_a_grace_period_that_leaves_no_score_is_refused(specimen_folders, tmp_path):
    task, data = unbuilt(eval=EvaluationConfig(grace_period=2)), slide_module(specimen_folders)
    with pytest.raises(ConfigError, match=r"grace_period 2 leaves none of the 2 epochs"):
        fitted(task, data, tmp_path, max_epochs=2)
    task = unbuilt(eval=EvaluationConfig(grace_period=1))
    with pytest.raises(ConfigError, match=r"EarlyStopping .* check_finite to false"):
        fitted(task, data, tmp_path, max_epochs=2, callbacks=[EarlyStopping(monitor="val/loss")])


# Checkpoints


def test_a_checkpoint_brings_tokens_and_predicts_the_same(asked, tmp_path):
    task, data, _ = asked
    fit = trainer(tmp_path)
    fit.strategy.connect(task)
    fit.save_checkpoint(tmp_path / "task.ckpt", weights_only=True)
    assert torch.load(tmp_path / "task.ckpt", weights_only=True)["tokenizer"] == task.tokenizer.to_json()
    loaded = SlideCaptioning.load_from_checkpoint(tmp_path / "task.ckpt", weights_only=True)
    assert loaded.input_dim == 384 and loaded.seed == task.seed == 42 and loaded.captions == task.captions
    assert loaded.tokenizer.fingerprint == task.tokenizer.fingerprint
    loaded.evaluation.zero_shot, loaded.evaluation.few_shot = ZERO_SHOT, FEW_SHOT  # a checkpoint holds no paths
    (table, arrays), (expected, others) = predicted(loaded, data), predicted(task, data)
    pd.testing.assert_frame_equal(table, expected)
    assert all(np.array_equal(array, others[name]) for name, array in arrays.items())


def checkpoint_of(task: SlideCaptioning) -> dict:
    checkpoint = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    return checkpoint


@pytest.mark.parametrize("damage", [{"tokenizer": None}, {"input_dim": "6"}, {"seed": None}], ids=str)
def test_a_checkpoint_that_lacks_something_is_damaged(damage):
    with pytest.raises(RunError, match="does not tell its tokenizer: it is damaged"):
        unbuilt().on_load_checkpoint(checkpoint_of(built()) | damage)


def test_a_tokenizer_of_other_weights_is_refused():
    other = train_tokenizer(REPORTS, vocab_size=270, max_length=256).to_json()
    with pytest.raises(WeightsError, match=r"tokenizer has 270 tokens, but the network in a checkpoint was made for"):
        unbuilt().on_load_checkpoint(checkpoint_of(built()) | {"tokenizer": other})


def test_pretrained_weights_come_with_their_tokens(specimen_folders, tmp_path):
    origin = built(width=384)
    with torch.no_grad():
        for weight in origin.parameters():
            weight.add_(0.01)
    torch.save(checkpoint_of(origin), tmp_path / "origin.ckpt")
    task = unbuilt(pretrained=tmp_path / "origin.ckpt", optim=AdamWConfig(lr=0.0), vocab_size=5000)
    fitted(task, slide_module(specimen_folders), tmp_path, limit_train_batches=1, limit_val_batches=1)
    assert task.tokenizer.fingerprint == origin.tokenizer.fingerprint
    assert all(torch.equal(value, origin.state_dict()[name]) for name, value in task.state_dict().items())


class Malicious:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"missing\.ckpt does not exist\. Correct model\.pretrained"),
        (Malicious(), r"holds no weights with their tokenizer"),
        ({"state_dict": {}}, r"holds no weights with their tokenizer"),
        (built(width=6), r"do not fit the network\. Set model\.name"),
        (built(width=384, name="clip"), r"do not fit the network\. Set model\.name"),
    ],
    ids=["missing", "code", "no tokenizer", "other features", "other network"],
)
def test_pretrained_weights_that_cannot_be_used_are_refused(content, message, specimen_folders, workdir):
    path = Path("missing.ckpt")
    if content is not None:
        path = Path("other.ckpt")
        whole = checkpoint_of(content) if isinstance(content, SlideCaptioning) else content
        with path.open("wb") as file:
            pickle.dump(whole, file) if isinstance(content, Malicious) else torch.save(whole, file)
    with pytest.raises(WeightsError, match=message):
        fitted(unbuilt(pretrained=path), slide_module(specimen_folders), Path())
    assert not Path("ran").exists()


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "coca_stage_9"}, r"no network 'coca_stage_9'\. Set model\.name to one of coca_stage_1, "),
        ({"accum_freq": 0}, r"model\.accum_freq is 0"),
        ({"name": "clip", "captions": CaptionsConfig(enabled=True)}, r"'clip' writes no reports"),
        ({"name": "lm", "zero_shot": ZERO_SHOT}, r"'lm' sees no features to tell classes by"),
        ({"name": "clip", "loss": ImageTextLoss(contrastive_weight=0)}, r"'clip' has nothing to learn from"),
        ({"name": "lm", "loss": ImageTextLoss(caption_weight=0)}, r"'lm' has nothing to learn from"),
        (
            {"captions": CaptionsConfig(enabled=True), "generation": GenerationConfig(max_seq_len=300)},
            r"max_seq_len is 300, but the network 'coca_stage_1' has 256 positions",
        ),
        ({"lock_image_unlocked_groups": 1}, r"lock_image_unlocked_groups is 1, .* Set model\.lock_image: true"),
        ({"lock_text_unlocked_layers": 2}, r"lock_text_unlocked_layers is 2, .* Set model\.lock_text: true"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        unbuilt(**settings)


def test_a_tower_that_is_not_there_or_has_fewer_groups_is_not_locked():
    with pytest.raises(ConfigError, match=r"model\.lock_image needs an image tower"):
        built(name="lm", lock_image=True)
    with pytest.raises(ConfigError, match=r"lock_text_unlocked_layers is 9, and there are 4 groups"):
        built(lock_text=True, lock_text_unlocked_layers=9)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (CaptionsConfig, {"every_n_epochs": 0}, r"model\.captions\.every_n_epochs is 0"),
        (EvaluationConfig, {"bootstraps": 0}, r"model\.eval\.bootstraps is 0"),
        (EvaluationConfig, {"ci": 1.0}, r"model\.eval\.ci is 1\.0"),
        (EvaluationConfig, {"grace_period": -1}, r"model\.eval\.grace_period is -1"),
    ],
)
def test_numbers_out_of_range_are_refused(kind, settings, message):
    with pytest.raises(ConfigError, match=message):
        kind(**settings)


@pytest.mark.parametrize(
    ("settings", "of_data", "message"),
    [
        ({}, {"batch_size": 1}, r"data\.batch_size 1 leaves a report nothing"),
        ({"accum_freq": 9}, {"batch_size": 8}, r"model\.accum_freq 9 cuts data\.batch_size 8 into more parts"),
    ],
)
def test_batches_that_leave_nothing_are_refused(settings, of_data, message, specimen_folders):
    task = unbuilt(**settings)
    with pytest.raises(ConfigError, match=message):
        task.check_data(slide_module(specimen_folders, **of_data))
    task.check_data(slide_module(specimen_folders, batch_size=16))
    unbuilt(name="lm").check_data(slide_module(specimen_folders, batch_size=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"specimen_class_mapping": ZERO_SHOT.specimen_class_mapping}, r"needs model\.zero_shot\.class_prompt_mapping"),
        ({**vars(ZERO_SHOT), "class_prompt_mapping": (Path("none.json"),) * 2}, r"none\.json"),
        (
            {**vars(ZERO_SHOT), "class_prompt_mapping": ZERO_SHOT.class_prompt_mapping[:1]},
            r"names 1 file\(s\) and .* 2",
        ),
    ],
    ids=["no prompts", "no file", "too few"],
)
def test_questions_without_their_files_are_refused(settings, message, specimen_folders):
    with pytest.raises(BiomassError, match=message):
        unbuilt(zero_shot=ZeroShotConfig(**settings)).set_up_for(slide_module(specimen_folders))


def test_classes_of_other_specimens_are_refused(specimen_folders, tmp_path):
    (tmp_path / "classes.json").write_text(json.dumps({"T99999A": 0}))
    files = ZeroShotConfig(
        class_prompt_mapping=ZERO_SHOT.class_prompt_mapping[:1], specimen_class_mapping=(tmp_path / "classes.json",)
    )
    with pytest.raises(DataError, match=r"classes\.json tells the class of no specimen"):
        unbuilt(zero_shot=files).set_up_for(slide_module(specimen_folders))


def test_the_report_of_a_task_knows_its_questions_and_intervals():
    report = unbuilt(zero_shot=ZERO_SHOT, eval=EvaluationConfig(bootstraps=30, ci=0.8)).report
    assert isinstance(report, SlideReport) and report.bootstrap == Bootstrap(draws=30, confidence=0.8)
    assert {"task_0_class", "task_1_class"} <= set(report.text_columns)
