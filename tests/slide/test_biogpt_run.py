"""`biomass fit`, `--resume` and `predict` with a BioGPT as text tower and decoder, end to end."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from biomass_pl.cli import main
from biomass_pl.runs import Run, find_run
from biomass_pl.slide.stored_tokenizer import stored_tokenizer
from tests.conftest import done_in, made_once
from tests.harness.interruptions import FailOnce
from tests.slide.tiny_biogpt import tiny_biogpt

pytestmark = pytest.mark.usefixtures("quick_pictures")

LOGS = Path("lightning_logs")
FIRST_FOLD = ("--folds", "0")
BIOGPT = ("--model.biogpt.folder", "biogpt", "--model.few_shot.examples", "[]")
FAILING = f"{FailOnce.__module__}.{FailOnce.__name__}"


def trained(workdir: Path, recipe: Path, *arguments: str) -> list[str]:
    """The command that trains with a BioGPT in the working folder, which is made there."""
    tiny_biogpt(workdir / "biogpt")
    return ["fit", "--config", str(recipe), *BIOGPT, *FIRST_FOLD, *arguments]


@pytest.fixture(scope="session")
def biogpt_trained(slide_recipe, tmp_path_factory) -> Path:
    """A working folder with one complete run, from which its BioGPT was then taken away. Not to be changed."""

    def make(folder: Path) -> None:
        done_in(folder, trained(folder, slide_recipe))
        shutil.rmtree(folder / "biogpt")

    return made_once(tmp_path_factory, "biogpt_trained", make)


@pytest.fixture
def biogpt_run(biogpt_trained) -> Run:
    return find_run(biogpt_trained / "lightning_logs")


def test_a_run_predicts_without_the_folder_that_it_started_from(biogpt_trained, biogpt_run, workdir):
    shutil.copytree(biogpt_trained, workdir, dirs_exist_ok=True)
    assert main(["predict", "--data.batch_size", "5", "--out", "again.csv"]) == 0
    again, table = (pd.read_csv(path, keep_default_na=False) for path in (Path("again.csv"), biogpt_run.oof_csv(0)))
    assert again["caption"].tolist() == table["caption"].tolist() and (table["caption"] != "").any()
    stored = torch.load(biogpt_run.best_checkpoint(0), weights_only=True)
    text = (biogpt_run.fold_dir(0) / "tokenizer.json").read_text()
    assert text == stored["tokenizer"] and stored_tokenizer(text, source="x").encode("biopsy of")[1:-1] != []
    scores = json.loads((biogpt_run.path / "oof_metrics.json").read_text())["pooled"]
    assert {"image_to_text_R@1", "task_0_auc_roc", "bleu4"} <= scores.keys()


def test_adapters_learn_and_what_they_adapt_stands_still(biogpt_run, tmp_path):
    origin = tiny_biogpt(tmp_path / "biogpt").state_dict()
    state = torch.load(biogpt_run.last_checkpoint(0), weights_only=True)["state_dict"]
    layer, theirs = "network.text.transformer.layers.1.attention", "biogpt.layers.1.self_attn"
    assert torch.equal(state[f"{layer}.key.base_layer.weight"], origin[f"{theirs}.k_proj.weight"])
    assert torch.equal(state[f"{layer}.output.bias"], origin[f"{theirs}.out_proj.bias"])
    assert torch.equal(state["network.text.tokens.weight"][2:], origin["biogpt.embed_tokens.weight"][2:])
    assert state[f"{layer}.key.lora_B.default.weight"].abs().min() > 0  # zero at first
    upper = "network.decoder.transformer.layers.0"
    assert torch.equal(state[f"{upper}.attention.value.weight"], origin["biogpt.layers.2.self_attn.v_proj.weight"])
    assert not torch.equal(state[f"{upper}.mlp.0.weight"], origin["biogpt.layers.2.fc1.weight"])


def test_a_broken_training_resumes_to_the_undisturbed_table(biogpt_run, slide_recipe, workdir):
    FailOnce.happened.clear()
    Path("broken.yaml").write_text(
        slide_recipe.read_text().replace(
            "trainer:\n", f"trainer:\n  callbacks:\n    - {{class_path: {FAILING}, init_args: {{epochs: [1]}}}}\n"
        )
    )
    assert main(trained(workdir, Path("broken.yaml"))) == 2
    run = find_run(LOGS)
    assert not run.is_finished(0) and len(pd.read_csv(run.metrics_csv(0))) == 1
    assert main(["fit", "--resume", "--trust", FAILING]) == 0
    assert run.oof_csv(0).read_bytes() == biogpt_run.oof_csv(0).read_bytes()


def test_the_published_language_model_learns_all_of_its_text_or_starts_from_another_run(slide_recipe, workdir):
    alone = [
        *("--model.name", "lm_baseline", "--trainer.max_epochs", "1", "--model.captions.enabled", "false"),
        *(f"--model.zero_shot.{kind}_mapping=[]" for kind in ("class_prompt", "specimen_class")),
    ]
    assert main(trained(workdir, slide_recipe, *alone, "--model.biogpt.lora_rank", "0")) == 0
    first = find_run(LOGS)
    state = torch.load(first.last_checkpoint(0), weights_only=True)["state_dict"]
    assert not any("lora" in name or name.startswith("network.image") for name in state)
    origin = tiny_biogpt(workdir / "other").state_dict()
    assert not torch.equal(
        state["network.text.transformer.layers.0.mlp.0.weight"], origin["biogpt.layers.0.fc1.weight"]
    )
    again = ["fit", "--config", str(slide_recipe), *FIRST_FOLD, *alone, "--model.few_shot.examples", "[]"]
    again += ["--model.pretrained", str(first.best_checkpoint(0)), "--model.optim.lr", "0"]
    assert main(again) == 0
    second = find_run(LOGS)
    assert second.path != first.path
    best, last = (torch.load(path, weights_only=True) for path in (first.best_checkpoint(0), second.last_checkpoint(0)))
    assert last["biogpt"] == best["biogpt"] and last["tokenizer"] == best["tokenizer"]
    assert all(torch.equal(value, best["state_dict"][name]) for name, value in last["state_dict"].items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.biogpt.folder", "nowhere"], "There is no folder nowhere. Download config.json, vocab.json"),
        (["--model.pretrained", "x.ckpt"], "model.pretrained brings its text tower and decoder with it"),
        (["--model.lock_text", "true"], "Leave model.lock_text out, or set model.biogpt.lora_rank: 0"),
        (["--model.generation.max_seq_len", "600"], "max_seq_len is 600, but the network 'coca_stage_1' has 128"),
    ],
)
def test_what_cannot_be_used_is_named_before_training(arguments, message, slide_recipe, workdir, capsys):
    assert main(trained(workdir, slide_recipe, *arguments)) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not LOGS.exists()
