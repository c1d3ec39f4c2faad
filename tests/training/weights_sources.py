"""Made-up places that pretrained weights come from: an installed package, and what timm has fetched before."""

import os
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from biomass_pl.training.weights_packages import WEIGHTS_PACKAGES

LITE0 = "tf_efficientnet_lite0"
PACKAGE = WEIGHTS_PACKAGES[f"{LITE0}.in1k"]


def random_weights(name: str = LITE0, **settings) -> dict[str, Tensor]:
    """All weights of a network that nobody has trained, with its classifier."""
    return timm.create_model(name, **settings).state_dict()


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors as another program names them: only the last part of each name is alike."""
    return {f"blocks.{number}.{name.rpartition('.')[2]}": value for number, (name, value) in enumerate(state.items())}


def install_package(folder: Path, content: object, *, save: Callable[[object, Path], None] = torch.save) -> Path:
    """Lays a weights package into a folder as pip would; importing it fails. Gives its file of weights."""
    file = folder / PACKAGE.file
    file.parent.mkdir(parents=True)
    save(content, file)
    (folder / Path(PACKAGE.file).parts[0] / "__init__.py").write_text("raise RuntimeError('imported')\n")
    information = folder / f"{PACKAGE.name.replace('-', '_')}-9.8.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE.name}\nVersion: 9.8\n")
    return file


def fill_hub_cache(cache: Path, name: str, state: dict[str, Tensor], *, file: str = "model.safetensors") -> Path:
    """Lays weights where the hub's client keeps what timm has fetched of a network, `name` with its tag."""
    repository = cache / f"models--timm--{name}"
    path = repository / "snapshots" / "0123abc" / file
    path.parent.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    return path


class MakesAFolder:
    """Unpickled with trust, this would run a command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)
