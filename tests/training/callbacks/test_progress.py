"""The bar of a fold: whose it is, and epochs from 1."""

import re

from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from biomass_pl.training.callbacks.progress import FoldProgressBar


def titles(printed: str) -> set[str]:
    """What stands before the bars of one or two batches of two."""
    return set(re.findall(r"([^\r\n]*?): +\d+%\|[^|]*\| [12]/2", printed))


def test_the_bar_names_the_fold_and_counts_epochs_from_one(tmp_path, capsys):
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        limit_train_batches=2,
        limit_val_batches=1,
        limit_predict_batches=2,
        num_sanity_val_steps=0,
        callbacks=[FoldProgressBar(title="fold 3")],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    model = BoringModel()
    trainer.fit(model)
    trained = "".join(capsys.readouterr())
    trainer.predict(model, return_predictions=False)
    predicted = "".join(capsys.readouterr())
    assert titles(trained) == {"fold 3, epoch 1 of 2", "fold 3, epoch 2 of 2"} and "loss" not in trained
    assert titles(predicted) == {"fold 3, predicting"}
