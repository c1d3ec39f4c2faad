import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from biomass_pl.cli import main
from biomass_pl.errors import ConfigError
from biomass_pl.harness.predictor import PredictCLI
from biomass_pl.slide.image_export import exportable_tower
from biomass_pl.training.export import write_program, write_trace
from tests.slide.networks import CLIP, INPUT_DIM, LANGUAGE_MODEL, WITH_IMAGES, captioner

ALONE = """
import sys, numpy as np, torch
path, kind, inputs, outputs = sys.argv[1:]
network = torch.jit.load(path) if kind == "trace" else torch.export.load(path).module()
given = np.load(inputs)
with torch.no_grad():
    found = network(torch.from_numpy(given["features"]), torch.from_numpy(given["valid"]))
assert not any(name.partition(".")[0] in ("biomass_pl", "lightning") for name in sys.modules)
np.savez(outputs, *(output.numpy() for output in found))
"""


@pytest.mark.parametrize("kind", ["trace", "export"])
def test_an_exported_tower_of_a_run_needs_torch_alone(kind, slide_copy, tmp_path):
    out = tmp_path / ("tower.pt" if kind == "trace" else "tower.pt2")
    assert main(["export", "--fold", "1", "--out", str(out), "--format", kind]) == 0
    told = json.loads(Path(f"{out}.json").read_text())
    assert told["task"] == "SlideCaptioning" and told["fold"] == 1
    assert told["outputs"] == ["embedding", "memory"]
    width = told["inputs"]["features"]["shape"][-1]
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 57, width)).astype(np.float32)
    valid = np.arange(57) < np.array([[57], [1], [20]])
    np.savez(tmp_path / "in.npz", features=features, valid=valid)
    arguments = [str(out), kind, str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    subprocess.run([sys.executable, "-c", ALONE, *arguments], check=True, cwd=tmp_path)
    cli = PredictCLI(slide_copy, 1)
    cli.load()
    with torch.no_grad():
        wanted = cli.model.eval().network.encode_image(torch.from_numpy(features), torch.from_numpy(valid))
    found = np.load(tmp_path / "out.npz")
    for array, tensor in zip((found["arr_0"], found["arr_1"]), wanted, strict=True):
        np.testing.assert_allclose(array, tensor.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("write", [write_trace, write_program])
@pytest.mark.parametrize("config", [*WITH_IMAGES.values(), CLIP], ids=[*WITH_IMAGES, "clip"])
def test_every_tower_can_be_exported(config, write, tmp_path):
    """What is written is compared with the network as it is written."""
    network = captioner(config, grad_checkpointing=True).eval()
    tower = exportable_tower(network, input_dim=INPUT_DIM)
    assert list(tower.outputs) == ["embedding", "memory"][: 1 if config is CLIP else 2]
    write(tower, tmp_path / "tower.pt2")
    assert tower.about["similarity_scale"] == pytest.approx(float(network.logit_scale.exp()))


def test_a_compiled_tower_is_exported_as_it_was(tmp_path):
    network = captioner(WITH_IMAGES["perceiver"]).eval()
    network.image.compile()
    write_trace(exportable_tower(network, input_dim=INPUT_DIM), tmp_path / "tower.pt")


def test_a_language_model_has_no_tower():
    with pytest.raises(ConfigError, match="without an image tower"):
        exportable_tower(captioner(LANGUAGE_MODEL), input_dim=INPUT_DIM)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--format", "script"], "'script' (choose from"),
        (["--fold", "9"], "has no finished fold 9"),
        (["--config", "slides.yaml"], "biomass export uses the run's own configuration"),
        (["--run", "nowhere"], "Run folder nowhere does not exist"),
    ],
)
def test_what_cannot_be_exported_is_told_and_nothing_is_written(arguments, told, slide_copy, capsys):
    assert main(["export", "--out", "tower.pt", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert not list(Path().glob("tower*"))


def test_a_task_without_such_a_part_is_named(lesion_copy, capsys):
    assert main(["export", "--out", "photo.pt"]) == 2
    assert "LesionClassifier has no part that can be exported" in capsys.readouterr().err
    assert not list(Path().glob("photo*"))
