"""Somebody's own table through the commands: it works, or one sentence says what to write."""

import json
import logging
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from biomass_pl.cli import main
from biomass_pl.data.splits import Split
from biomass_pl.errors import BiomassError, DataError
from biomass_pl.pasture.data import PastureDataModule
from biomass_pl.pasture.tables import read_labels
from biomass_pl.pasture.targets import TARGETS, TOTAL
from biomass_pl.runs import find_run
from biomass_pl.training.linear_probe import known_items
from tests.harness.test_fit import LOGS

RECIPE = """\
trainer: {max_epochs: 1}
model:
  class_path: HierarchicalRatio
  init_args: {backbone: test_vit.r160_in1k, pretrained: false, optim: {warmup_epochs: 0}}
data:
  class_path: PastureDataModule
  init_args: {root: ROOT, num_folds: 2, tile_size: 32, num_workers: 0, cv_strategy: stratified}
"""


@pytest.fixture
def wide(data) -> pd.DataFrame:
    """The labels of the rendered photos, a row per photo; their own table is away."""
    table = read_labels(data).rename(columns={"image_path": "Photo", "Sampling_Date": "Date", TARGETS[TOTAL]: "Total"})
    (data / "train.csv").unlink()
    return table.drop(columns="image_id")


def german(table):
    return table.to_csv(index=False, sep=";", decimal=",")


def day_first(table):
    return table.assign(Date=pd.to_datetime(table["Date"]).dt.strftime("%d.%m.%Y")).to_csv(index=False)


def thousands(table):
    return table.assign(Total=[f"{1000 + n:,.0f}" for n in range(len(table))]).to_csv(index=False)


def gaps(table):
    """Green of every third photo, Dead of every second one, nothing else beside the total."""
    table = table.assign(Dry_Clover_g="", GDM_g="NA")
    for every, target in ((3, "Dry_Green_g"), (2, "Dry_Dead_g")):
        table[target] = table[target].where(table.index % every == 0)
    return table.to_csv(index=False)


SPOILED = {
    "semicolons and decimal commas": (german, {}, None),
    "backslashes": (lambda table: table.assign(Photo=table["Photo"].str.replace("/", "\\")).to_csv(index=False), {}, None),
    "endings in capitals": (lambda table: table.assign(Photo=table["Photo"].str.upper().str.replace("TRAIN", "train")).to_csv(index=False), {}, None),
    "only totals": (lambda table: table[["Photo", "Total"]].to_csv(index=False), {"cv_strategy": "stratified"}, None),
    "only totals, no days": (lambda table: table[["Photo", "Total"]].to_csv(index=False), {}, "Add it, or choose data.cv_strategy stratified"),
    "gaps": (gaps, {}, None),
    "UTF-16": (lambda table: table.to_csv(index=False, sep="\t").encode("utf-16"), {}, None),
    "an unknown encoding": (lambda table: table.assign(Species="Trèfle").to_csv(index=False).encode("cp1252"), {}, "data.encoding: cp1252"),
    "a named encoding": (lambda table: table.assign(Species="Trèfle").to_csv(index=False).encode("cp1252"), {"encoding": "cp1252"}, None),
    "days first": (day_first, {}, "data.date_format: day-month-year"),
    "days first, as told": (day_first, {"date_format": "day-month-year"}, None),
    "thousands": (thousands, {}, "write 1.000 or 1000"),
    "other names": (lambda table: table.rename(columns={"Photo": "Bild", "Total": "Masse"}).to_csv(index=False), {}, "data.columns: {image: HEADING"),
    "other names, as told": (lambda table: table.rename(columns={"Photo": "Bild", "Total": "Masse"}).to_csv(index=False), {"columns": {"image": "Bild", "Dry_Total_g": "Masse"}}, None),
    "a negative weight": (lambda table: table.assign(Total=table["Total"].where(table.index != 3, -1)).to_csv(index=False), {}, "line 5: Total '-1.0' is not a number of grams"),
}  # fmt: skip
"""How a table is written, with which settings, and what the message says; None: it works."""


def folds_of(module):
    module.prepare()
    return module.make_folds()


@pytest.mark.parametrize("case", SPOILED)
def test_a_spoiled_table_works_or_one_sentence_says_what_to_write(data, wide, case):
    write, settings, told = SPOILED[case]
    content = write(wide)
    (data / "weights.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    module = PastureDataModule(root=data, num_folds=3, tile_size=16, num_workers=0, **settings)
    if told is not None:
        with pytest.raises(BiomassError) as caught:
            folds_of(module)
        assert told in str(caught.value) and len(str(caught.value).splitlines()[0]) < 400
        return
    module.use(Split(fold=0, folds=folds_of(module)))
    module.check()
    module.check_split()
    items = module.items()
    pd.testing.assert_series_equal(items[TARGETS[TOTAL]], wide["Total"], check_names=False)
    targets = np.concatenate([batch["target"].numpy() for batch in module.train_dataloader()])
    assert len(targets) == module.training_count and not np.isnan(targets).all(axis=1).any()


@pytest.fixture
def own_recipe(data, workdir) -> str:
    (workdir / "own.yaml").write_text(RECIPE.replace("ROOT", str(data)))
    return "own.yaml"


def scores():
    run = find_run(LOGS)
    return run, json.loads((run.path / "oof_metrics.json").read_text())


def test_a_table_of_totals_alone_trains_and_predicts(data, wide, own_recipe, capsys, quick_pictures):
    wide[["Photo", "Total"]].to_csv(data / "weights.csv", index=False)
    assert main(["fit", "--config", own_recipe]) == 0
    told = capsys.readouterr().err
    assert told.count("the only table in") == told.count("is read by the names of its columns") == 1
    assert told.count("known of no photo, so that nothing teaches") == 1
    run, found = scores()
    assert list(found["pooled"]["targets"]) == [TARGETS[TOTAL]] and found["pooled"]["photos"] == len(wide)
    table = pd.read_csv(run.oof_predictions)
    assert table[TARGETS[TOTAL]].notna().all() and table[list(TARGETS[:TOTAL])].isna().all(axis=None)
    assert table[[f"{target}_pred" for target in TARGETS]].notna().all(axis=None)
    before = run.oof_predictions.read_bytes()
    assert main(["predict"]) == 0
    assert run.oof_predictions.read_bytes() == before
    assert main(["predict", "--split", "test"]) == 0


def test_a_table_from_excel_trains(data, wide, own_recipe, quick_pictures):
    dates = pd.to_datetime(wide["Date"])
    wide.assign(Date=dates).to_excel(data / "weights.xlsx", index=False, sheet_name="Cuts")
    assert main(["fit", "--config", own_recipe, "--data.cv_strategy", "group_date", "--folds", "0"]) == 0
    run, found = scores()
    assert list(found["pooled"]["targets"]) == list(TARGETS)
    assert run.path.joinpath("oof_predictions.csv").read_text().count("2015-") > 0


def test_semicolons_with_decimal_commas_and_a_fold_file_of_the_same_kind_train(
    data, wide, own_recipe, capsys, quick_pictures
):
    (data / "weights.csv").write_text(german(wide.rename(columns={"Photo": "Bild", "Total": "Trocken (g)"})))
    ids = read_names(wide)
    Path("folds.csv").write_text("image_id;fold\n" + "".join(f"{name};{n % 2}\n" for n, name in enumerate(ids)))
    settings = ["--data.columns", "{image: Bild, Dry_Total_g: Trocken (g)}", "--data.cv_strategy", "null"]
    assert main(["fit", "--config", own_recipe, *settings, "--data.fold_csv", "folds.csv", "--folds", "1"]) == 0
    assert "is separated by semicolons" in capsys.readouterr().err
    run, found = scores()
    assert found["pooled"]["photos"] == len(ids) // 2
    # Its stored configuration, with the names of columns, is taken as plain data.
    assert main(["predict", "--run", str(run.path)]) == 0


def read_names(wide):
    return sorted(Path(photo).stem for photo in wide["Photo"])


def test_photos_of_another_shape_are_warned_of_once_with_their_count(data, wide, own_recipe, caplog, quick_pictures):
    wide.to_csv(data / "weights.csv", index=False)
    assert main(["fit", "--config", own_recipe, "--oof", "false"]) == 0
    run = find_run(LOGS)
    assert run.record()["aspect_ratios"] == [2.0, 2.0]
    for name, size in (("portrait.jpg", (60, 80)), ("wide.jpg", (128, 64))):
        Image.new("RGB", size, "green").save(name)
    with caplog.at_level(logging.WARNING):
        assert main(["predict", "--images", "portrait.jpg", "wide.jpg"]) == 0
    (warning,) = [record.message for record in caplog.records if "another shape" in record.message]
    assert warning.startswith("1 of 2 photo(s)") and "2.00 times as wide as high: portrait.jpg." in warning
    run.update_record(aspect_ratios=None)  # as of runs made before shapes were kept
    caplog.clear()
    assert main(["predict", "--images", "portrait.jpg"]) == 0
    assert "another shape" not in caplog.text


def test_a_fold_whose_training_photos_lack_a_target_is_warned_of(data, wide, caplog):
    wide["Dry_Clover_g"] = wide["Dry_Clover_g"].where(wide.index < 3)
    wide.drop(columns=["GDM_g", "Dry_Dead_g"]).to_csv(data / "weights.csv", index=False)
    module = PastureDataModule(root=data, tile_size=16, batch_size=2, num_workers=0)
    names = module.names()
    module.use(Split(fold=0, folds=pd.Series([0] * 6 + [1] * (len(names) - 6), index=names)))
    with caplog.at_level(logging.WARNING):
        module.check_split()
    (record,) = caplog.records
    assert record.message == (
        "Fold 0 holds out all photos with known Dry_Dead_g and Dry_Clover_g and GDM_g: nothing teaches what is "
        "predicted of it."
    )


def test_pre_training_refuses_photos_whose_grams_are_unknown(data, wide):
    (data / "weights.csv").write_text(wide[["Photo", "Total"]].to_csv(index=False))
    with pytest.raises(DataError, match=r"24 photo\(s\) lack Dry_Green_g, .* linear probe"):
        known_items(PastureDataModule(root=data, num_workers=0), TARGETS, classes=False)


def test_mixed_photos_know_what_both_know(data, wide):
    half = wide.assign(Dry_Green_g=wide["Dry_Green_g"].where(wide.index % 2 == 0), GDM_g=np.nan)
    half["Dry_Clover_g"] = np.nan
    text = half.assign(Date="2015-09-04", State="Tas", Species="Ryegrass").to_csv(index=False)
    assert pd.read_csv(StringIO(text))["GDM_g"].isna().all()
    (data / "weights.csv").write_text(text)
    module = PastureDataModule(
        root=data, tile_size=16, batch_size=4, num_workers=0, mixup_prob=1.0, cv_strategy="stratified", num_folds=2
    )
    module.use(Split(fold=0, folds=module.make_folds()))
    targets = np.concatenate([batch["target"].numpy() for batch in module.train_dataloader()])
    known = ~np.isnan(targets)
    assert known[:, TOTAL].all() and 0 < known[:, 0].sum() < len(targets) / 2 + 1
