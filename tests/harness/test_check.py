"""`biomass check` on the rendered sample of every system, and on data in which something is wrong."""

import re
import shlex
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from biomass_pl.cli import main
from biomass_pl.pasture.tables import read_labels

CONFIGS = Path(__file__).parents[2] / "configs"
pytestmark = pytest.mark.usefixtures("quick_pictures")


@pytest.fixture
def place(workdir) -> Path:
    """A working folder with the recipes, as in a clone."""
    (workdir / "configs").symlink_to(CONFIGS)
    return workdir


def checked(capsys, root: Path, *settings: str) -> tuple[int, str, str]:
    """Exit code, what was shown, and what was told beside it."""
    arguments = ["--data.root", str(root), *settings]
    code = main(["check", *arguments])
    shown, told = capsys.readouterr()
    return code, shown, told


def rows(shown: str, title: str) -> list[list[str]]:
    """Cells of the table below a title, cut at spaces."""
    lines = shown.partition(f"\n{title}")[2].splitlines()[3:]
    table = lines[next(number for number, line in enumerate(lines) if "───" in line) + 1 :]
    return [line.split() for line in table[: next(number for number, line in enumerate(table) if not line.strip())]]


NO_WEIGHTS = ("--model.pretrained", "false")
SYSTEMS = {
    "pasture": ("rendered", "quickstart", 24, ("--model.backbone", "test_vit.r160_in1k", *NO_WEIGHTS)),
    "lesion": ("lesions", "lesion_quick", 120, ("--data.batch_size", "8", *NO_WEIGHTS)),
    "leaf": ("leaves", "leaf_quick", 70, NO_WEIGHTS),
    "slide": ("slides", "slide_quick", 60, ("--data.batch_size", "8")),
    "trait": ("plots", "regression", 40, ("--model.backbone", "test_vit.r160_in1k", *NO_WEIGHTS)),
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_sample_is_understood_and_the_command_to_type_is_complete(system, place, capsys, request):
    sample, recipe, count, settings = SYSTEMS[system]
    root = request.getfixturevalue(sample)
    workers = ("--data.num_workers", "0")
    code, shown, told = checked(capsys, root, *settings, *workers)
    assert code == 0, told
    assert shown.startswith(f"{root} is read for ") and f"the recipe {recipe} " in shown.splitlines()[0]
    assert f"\n{count} {'specimens' if system == 'slide' else 'photos'}" in shown
    folds = rows(shown, "folds")
    assert folds[0][:2] == ["all", str(count)]
    assert sum(int(row[1]) for row in folds[1:]) == count
    assert all(int(row[1]) + int(row[2]) == count for row in folds[1:])
    command = ["--config", recipe, "--data.root", str(root), *settings, *workers]
    assert shown.endswith(f"Nothing is wrong. To train:\n  biomass fit {shlex.join(command)}\n")
    sheet = place / "lightning_logs" / "check" / f"{root.name}.png"
    assert sheet.is_file() == (system != "slide") == (str(sheet.relative_to(place)) in shown)


def test_the_command_that_is_shown_begins_a_training(rendered, place, capsys):
    unfrozen = ("--trainer.callbacks", "[]", "--data.bank_views", "0", "--data.batch_size", "8")
    settings = ("--data.num_workers", "0", *NO_WEIGHTS, *unfrozen, "--trainer.fast_dev_run", "1")
    _, shown, _ = checked(capsys, rendered, *settings)
    assert main(shlex.split(shown.splitlines()[-1])[1:]) == 0


def test_nothing_is_trained_or_written_but_the_sheet(rendered, place, capsys):
    before = sorted(rendered.rglob("*"))
    checked(capsys, rendered)
    assert [path for path in Path("lightning_logs").rglob("*") if path.is_file()] == [
        Path("lightning_logs/check/data.png")
    ]
    assert sorted(rendered.rglob("*")) == before


def test_columns_values_sizes_and_folds_of_a_table_of_ones_own(rendered, place, capsys):
    root = own_table(rendered, place / "survey")
    folds = ("--data.cv_strategy", "random", "--data.num_folds", "2", "--data.batch_size", "8")
    code, shown, told = checked(capsys, root, *folds, *NO_WEIGHTS)
    assert code == 0
    assert re.search(r"image +photo\b", shown) and re.search(r"Dry_Total_g +total\b", shown)
    assert re.search(r"not used +notes\b", shown)
    totals = read_labels(rendered)["Dry_Total_g"]
    least, median, greatest = (f"{value:.4g}" for value in (totals.min(), totals.median(), totals.max()))
    assert ["Dry_Total_g", "24", "0", "24", least, median, greatest] in rows(shown, "24 photos")
    assert ["Dry_Dead_g", "0", "24", "0", "-", "-", "-"] in rows(shown, "24 photos")
    assert rows(shown, "sizes") == [["128", "x", "64", "2.00", "24"]]
    everything, *folds = rows(shown, "folds")
    assert everything[-1] == f"{totals.mean():.4g}"
    means = [float(fold[-1]) * int(fold[1]) for fold in folds]
    assert sum(means) / 24 == pytest.approx(totals.mean(), rel=1e-3)
    assert "known of no photo" in told


def own_table(rendered: Path, root: Path) -> Path:
    """A data folder with a row per photo, semicolons and only totals."""
    shutil.copytree(rendered / "train", root / "photos")
    labels = read_labels(rendered)
    photos = labels["image_path"].str.replace("train", "photos")
    table = pd.DataFrame({"photo": photos, "total": labels["Dry_Total_g"], "notes": "none"})
    table.to_csv(root / "weights.csv", sep=";", index=False)
    return root


def test_classes_are_counted(leaves, place, capsys):
    _, shown, _ = checked(capsys, leaves, *NO_WEIGHTS)
    assert ["Healthy", "Leaf", "10"] in rows(shown, "classes") and len(rows(shown, "classes")) == 7


def truncate(photo: Path) -> None:
    photo.write_bytes(photo.read_bytes()[:-200])


def test_all_that_is_wrong_is_told_at_once(data, place, capsys):
    photos = sorted((data / "train").iterdir())
    truncate(photos[3])
    photos[5].unlink()
    freeze = ("--trainer.callbacks", "[{class_path: BackboneFreeze, init_args: {epochs: 2}}]", "--data.bank_views", "0")
    settings = ("--data.num_folds", "40", "--trainer.max_epochs", "2", *freeze, *NO_WEIGHTS)
    code, shown, told = checked(capsys, data, *settings)
    assert code == 2 and "Nothing is wrong" not in shown
    assert "3 things are wrong; a training would be refused:" in told
    assert "1. 2 photo(s) cannot be used" in told and "Traceback" not in told
    assert f"{photos[3]}: image file is truncated" in told and f"{photos[5]}: the file does not exist" in told
    assert "for 40 folds" in told
    assert "BackboneFreeze.epochs 2 leaves no epoch" in told
    assert "24 photos" in shown and "23" in rows(shown, "sizes")[0]


def test_rows_that_are_wrong_do_not_hide_photos_that_are(data, place, capsys):
    table = data / "train.csv"
    lines = table.read_text().splitlines()
    lines[3] = f"{lines[3].rpartition(',')[0]},many"
    table.write_text("\n".join(lines))
    photo = sorted((data / "train").iterdir())[3]
    truncate(photo)
    code, shown, told = checked(capsys, data, *NO_WEIGHTS)
    assert code == 2
    assert "2 things are wrong" in told
    assert f"{table} has 1 problem(s)" in told and "line 4: target 'many'" in told
    assert f"{photo}: image file is truncated" in told
    assert "grams" in shown and "28 photos were found" in shown


def test_a_broken_photo_of_a_class_and_one_of_a_copy_are_told_once(leaves, place, capsys):
    root = Path(shutil.copytree(leaves, place / "data"))
    photos = [sorted(root.glob(f"{part}*/*/*.jpg"))[4] for part in ("Original", "Augmented")]
    for photo in photos:
        truncate(photo)
    code, _, told = checked(capsys, root, *NO_WEIGHTS)
    assert code == 2 and "2 things are wrong" in told
    assert all(told.count(str(photo)) == 1 for photo in photos)


def test_a_lesion_of_no_class_is_told_beside_a_broken_photo(lesions, place, capsys):
    root = Path(shutil.copytree(lesions, place / "data"))
    table = pd.read_csv(root / "train-metadata.csv", dtype=str)
    table.loc[2, "target"] = "7"
    table.to_csv(root / "train-metadata.csv", index=False)
    code, shown, told = checked(capsys, root, *NO_WEIGHTS, "--data.batch_size", "8")
    assert code == 2 and "line 4: target '7' is neither 0 nor 1" in told
    assert re.search(r"what is kept in one fold +patient_id", shown)


def test_a_specimen_without_a_report_is_told(slides, place, capsys):
    root = Path(shutil.copytree(slides, place / "data"))
    with h5py.File(root / "specimens.hdf5", "a") as file:
        path = file["case-index/case_paths"][5].decode()
        del file[path]["report"]
    code, shown, told = checked(capsys, root, "--data.batch_size", "8")
    assert code == 2 and "1 specimen(s) have no report in" in told and path.rpartition("/")[2] in told
    assert "photo" not in shown


def test_a_measurement_that_is_no_number_is_told_beside_a_broken_photo(plots, place, capsys):
    root = Path(shutil.copytree(plots, place / "data"))
    table = pd.read_csv(root / "table.csv", dtype=str)
    table.loc[1, "yield_t_ha"] = "high"
    table.to_csv(root / "table.csv", index=False)
    truncate(root / table.loc[4, "photo"])
    code, shown, told = checked(capsys, root, *NO_WEIGHTS)
    assert code == 2 and "2 things are wrong" in told
    assert "line 3: yield_t_ha 'high' is not a number" in told and f"{table.loc[4, 'photo']}: image file" in told
    assert re.search(r"what is kept in one fold +field", shown) and re.search(r"target +ears_m2, yield_t_ha", shown)


def test_test_specimens_are_read_where_they_are_named(slides, place, capsys):
    settings = ("--data.test_split", "splits/test.txt", "--data.batch_size", "8")
    code, shown, _ = checked(capsys, slides, *settings)
    count = len((slides / "splits" / "test.txt").read_text().split(","))
    assert code == 0 and f"\n{count} test specimens, 0 of which cannot be used." in shown


def test_a_single_fault_is_told_as_fit_tells_it(data, recipe, place, capsys):
    truncate(next((data / "train").iterdir()))
    arguments = ["--config", str(recipe), "--data.root", str(data)]
    told = []
    for command in ("check", "fit"):
        assert main([command, *arguments]) == 2
        told.append(capsys.readouterr().err)
    assert told[0] == told[1] and told[0].startswith("biomass: error: 1 photo(s) cannot be used")


def test_what_is_wrong_in_every_fold_is_told_once(lesions, place, capsys):
    code, _, told = checked(capsys, lesions, *NO_WEIGHTS, "--data.batch_size", "32")
    assert code == 2
    assert told.count("data.positive_ratio 0.5 puts 16") == 1 and "fold 0 trains on" in told


def test_the_first_of_several_faults_says_how_many_are_like_it(lesions, place, capsys):
    settings = (*NO_WEIGHTS, "--data.batch_size", "32", "--trainer.max_epochs", "0")
    code, _, told = checked(capsys, lesions, *settings)
    assert code == 2 and "2 things are wrong" in told
    assert told.count("data.positive_ratio 0.5 puts 16") == 1 and "The same with other numbers: 4 more." in told


def test_a_setting_that_several_checks_refuse_is_told_once(lesions, place, capsys):
    settings = (*NO_WEIGHTS, "--data.sample_size", "1", "--trainer.max_epochs", "0")
    code, _, told = checked(capsys, lesions, *settings)
    assert code == 2 and "2 things are wrong" in told
    assert told.count("data.sample_size 1 leaves no room") == 1 and "The same" not in told


def test_copies_of_a_photo_in_several_folds_are_found_beside_other_faults(data, place, capsys):
    photos = sorted((data / "train").iterdir())
    for photo in photos[1:]:
        shutil.copy(photos[0], photo)
    code, _, told = checked(capsys, data, "--data.cv_strategy", "random", "--trainer.max_epochs", "0", *NO_WEIGHTS)
    assert code == 2 and f"{photos[0].stem} (fold" in told and "trainer.max_epochs is 0" in told


def test_test_photos_that_are_broken_are_odd_and_hinder_no_training(data, place, capsys):
    broken, *others = sorted((data / "test").iterdir())
    broken.write_text("no picture")
    code, shown, told = checked(capsys, data, *NO_WEIGHTS)
    assert code == 0
    assert f"{1 + len(others)} test photos, 1 of which cannot be used" in shown
    assert f"warning: Test photo {broken.stem} cannot be used: it is not a picture" in told


def test_a_test_table_that_is_wrong_is_odd_too(data, place, capsys):
    (data / "test.csv").write_text("a,b\n1,2\n")
    code, _, told = checked(capsys, data, *NO_WEIGHTS)
    assert code == 0
    assert "warning: A training goes without, but biomass predict --split test will be refused" in told


def test_photos_of_another_shape_are_odd(data, place, capsys):
    photo = sorted((data / "train").iterdir())[2]
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photo)
    code, shown, told = checked(capsys, data, *NO_WEIGHTS)
    assert code == 0 and ["64", "x", "64", "1.00", "1"] in rows(shown, "sizes")
    assert "warning: 1 of 24 photo(s) are of another shape than most, which are 2.00 times as wide as high: " in told
    assert photo.stem in told


def test_weights_that_are_not_there_are_told(rendered, place, capsys):
    backbone = ("--model.backbone", "resnet18.a1_in1k", "--model.pretrained", "true")
    code, _, told = checked(capsys, rendered, *backbone)
    assert code == 2 and "pretrained weights of 'resnet18.a1_in1k' cannot be had" in told


def test_a_missing_folder_is_not_rendered(place, capsys):
    config = ["--config", "configs/quickstart.yaml"]
    assert main(["check", *config, "--data.root", "nowhere"]) == 2
    assert "Data folder 'nowhere' does not exist" in capsys.readouterr().err
    code, _, told = checked(capsys, Path("nowhere"))
    assert code == 2 and "nowhere is no folder. Correct --data.root." in told
    assert not Path("nowhere").exists()


def test_a_folder_that_no_system_knows_asks_for_a_recipe(place, capsys):
    Path("photos").mkdir()
    code, shown, told = checked(capsys, Path("photos"))
    assert code == 2 and not shown and told.count("\n") == 1
    assert "it is not laid out as any of them expects. Name one: --config quickstart for grams" in told


def test_a_folder_that_several_systems_know_asks_for_a_recipe(rendered, place, capsys):
    root = own_table(rendered, place / "survey")
    table = pd.read_csv(root / "weights.csv", sep=";")
    (root / "weights.csv").unlink()
    table.to_csv(root / "table.csv", index=False)
    code, _, told = checked(capsys, root)
    assert code == 2 and "it may be for several of them" in told
    assert re.findall(r"--config (\w+) for", told) == ["quickstart", "regression"]


def test_without_a_folder_or_a_recipe_there_is_nothing_to_check(place, capsys):
    assert main(["check"]) == 2
    assert "Give --data.root DIR, or --config RECIPE." in capsys.readouterr().err


def test_a_wrong_setting_is_named_as_in_fit(rendered, place, capsys):
    code, _, told = checked(capsys, rendered, "--data.num_fold", "3")
    assert code == 2 and "num_fold" in told and "biomass check --help" in told


def test_help_shows_the_settings_of_the_data(place, capsys):
    assert main(["check", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "usage: biomass check" in shown and "--data.cv_strategy" in shown


def test_brackets_in_a_heading_are_no_markup(rendered, place, capsys):
    root = own_table(rendered, place / "survey")
    table = root / "weights.csv"
    table.write_text(table.read_text().replace("notes", "[red]notes[/nothing]", 1))
    code, shown, _ = checked(capsys, root, "--data.cv_strategy", "random", *NO_WEIGHTS)
    assert code == 0 and "[red]notes[/nothing]" in shown
