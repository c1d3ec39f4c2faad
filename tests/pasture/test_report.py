"""Scores of a table against plain arithmetic; the bootstrap over sites; what is printed, drawn and rounded."""

import io
import itertools
import json
import math
import random
import statistics

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from biomass_pl.evaluation.report import StackColumns
from biomass_pl.pasture.report import PastureReport, bootstrap_interval, scatter, score_table
from biomass_pl.pasture.targets import SCORE_WEIGHTS, TARGETS


def make_table(*, sites: int = 12, repeats: int = 1, folds: int = 3, noise: float = 6.0) -> pd.DataFrame:
    """One random photo per site, repeated: State and date say which site."""
    generator = np.random.default_rng(5)
    green, dead, clover = generator.gamma(2.0, 10.0, (3, sites))
    grams = np.stack([green, dead, clover, green + clover, green + dead + clover], axis=1)
    predicted = np.abs(grams + generator.normal(0, noise, grams.shape))
    table = pd.DataFrame(grams, columns=list(TARGETS))
    for column, target in enumerate(TARGETS):
        table[f"{target}_pred"] = predicted[:, column]
    table["State"] = [("Tas", "Vic", "NSW")[site % 3] for site in range(sites)]
    table["Sampling_Date"] = [f"2015-{site // 3 + 1:02d}-05" for site in range(sites)]
    table["fold"] = [site % folds for site in range(sites)]
    return pd.concat([table] * repeats, ignore_index=True)


def without_sites(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=["State", "Sampling_Date"])


def pairs(table: pd.DataFrame, target: str) -> list[tuple[float, float]]:
    return list(zip(table[target], table[f"{target}_pred"], strict=True))


def r2(values: list[tuple[float, float, float]]) -> float:
    """R2 of (weight, truth, prediction), written out."""
    mean = sum(w * t for w, t, _ in values) / sum(w for w, _, _ in values)
    return 1 - sum(w * (t - p) ** 2 for w, t, p in values) / sum(w * (t - mean) ** 2 for w, t, _ in values)


def weighted_r2_by_hand(table: pd.DataFrame) -> float:
    return r2([(SCORE_WEIGHTS[target], t, p) for target in TARGETS for t, p in pairs(table, target)])


def assert_scored(scores: dict, table: pd.DataFrame) -> None:
    assert scores["photos"] == len(table)
    assert scores["weighted_r2"] == pytest.approx(weighted_r2_by_hand(table), abs=1e-12)
    each = {target: r2([(1, t, p) for t, p in pairs(table, target)]) for target in TARGETS}
    assert scores["mean_r2"] == pytest.approx(sum(SCORE_WEIGHTS[t] * value for t, value in each.items()), abs=1e-12)
    for target in TARGETS:
        errors = [p - t for t, p in pairs(table, target)]
        assert scores["targets"][target] == pytest.approx(
            {
                "r2": each[target],
                "rmse": math.sqrt(statistics.fmean(error**2 for error in errors)),
                "mae": statistics.fmean(abs(error) for error in errors),
            }
        )


def test_scores_equal_the_formulas_pooled_and_per_fold():
    table = make_table(sites=20)
    scores = score_table(table)
    assert_scored(scores["pooled"], table)
    assert list(scores["folds"]) == ["0", "1", "2"]
    for fold, values in scores["folds"].items():
        assert_scored(values, table[table["fold"] == int(fold)])


def test_the_report_scores_as_the_table_is_scored():
    table = make_table()
    assert PastureReport().score(table) == PastureReport().score(table, {}) == score_table(table)


def test_what_a_stack_learns():
    assert PastureReport.stacking == StackColumns(
        kind="regression",
        truth=TARGETS,
        predicted=tuple(f"{target}_pred" for target in TARGETS),
        sums={"GDM_g": ("Dry_Green_g", "Dry_Clover_g"), "Dry_Total_g": ("GDM_g", "Dry_Dead_g")},
        at_least=0.0,
    )


def table_of(grams: dict[str, list[float]], folds: list[int]) -> pd.DataFrame:
    """Predictions of 0 g for photos of which every target has the same grams, but for those that are named."""
    columns = {target: grams.get(target, grams["others"]) for target in TARGETS}
    return pd.DataFrame({**columns, **{f"{target}_pred": 0 for target in TARGETS}, "fold": folds})


def test_the_constant_predictor_gives_the_mean_of_the_other_folds():
    # Grams 1 and 3 are predicted as 6, grams 5 and 7 as 2: squared errors 25 + 9 and 9 + 25.
    # Around the mean of a fold the squares sum up to 2, around the mean 4 of all photos to 20.
    scores = score_table(table_of({"others": [1, 5, 3, 7]}, [0, 1, 0, 1]))["constant"]
    fold = pytest.approx({"weighted_r2": 1 - 34 / 2, "mean_r2": 1 - 34 / 2})
    assert scores["folds"] == {"0": fold, "1": fold}
    assert scores["pooled"] == pytest.approx({"weighted_r2": 1 - 68 / 20, "mean_r2": 1 - 68 / 20})


def test_the_constant_predictor_has_a_weighted_r2_because_targets_differ():
    # Every fold has the means 10 g Total and 1 g of the others, half of the weight each, so 4.5 g from the mean of
    # all values. Each value is 1 g off the mean of its target, which is also the error: nothing is explained there.
    table = table_of({"Dry_Total_g": [9, 11, 9, 11], "others": [0, 2, 0, 2]}, [0, 0, 1, 1])
    expected = pytest.approx({"weighted_r2": 1 - 1 / (4.5**2 + 1), "mean_r2": 0}, abs=1e-12)
    assert score_table(table)["constant"] == {"pooled": expected, "folds": {"0": expected, "1": expected}}


def test_the_constant_predictor_weighs_photos_not_folds():
    # Fold 1 learns 2 g from one photo, fold 0 learns 4 and fold 2 learns 3 from three.
    scores = score_table(table_of({"others": [2, 4, 6, 0]}, [0, 1, 1, 2]))["constant"]
    expected = 1 - ((2 - 10 / 3) ** 2 + (4 - 1) ** 2 + (6 - 1) ** 2 + (0 - 4) ** 2) / 20
    assert scores["pooled"]["mean_r2"] == pytest.approx(expected)
    assert scores["folds"]["0"] == scores["folds"]["2"] == {"weighted_r2": None, "mean_r2": None}


@pytest.mark.filterwarnings("error")
def test_a_single_fold_has_no_constant_predictor():
    undefined = {"weighted_r2": None, "mean_r2": None}
    scores = score_table(table_of({"others": [1, 2, 3]}, [2, 2, 2]))
    assert scores["constant"] == {"pooled": undefined, "folds": {"2": undefined}}
    assert printed_rows(scores)["constant"] == [["-", "-"], ["-", "-"]]


def test_the_constant_predictor_knows_nothing_of_the_predictions():
    table, other = make_table(), make_table(noise=20)
    other.loc[0, "GDM_g_pred"] = math.nan
    assert score_table(table)["constant"] == score_table(other)["constant"]


def test_the_pooled_score_is_not_the_mean_of_the_folds():
    scores = score_table(make_table(sites=20))
    folds = [values["weighted_r2"] for values in scores["folds"].values()]
    assert abs(scores["pooled"]["weighted_r2"] - statistics.fmean(folds)) > 1e-3


def test_the_interval_is_the_same_every_time():
    assert bootstrap_interval(make_table()) == bootstrap_interval(make_table())


def test_the_interval_contains_the_score():
    table = make_table(sites=15, repeats=2)
    interval, drawn = bootstrap_interval(table)
    assert interval is not None and drawn == "sites"
    low, high = interval
    assert low < weighted_r2_by_hand(table) < high < 1


def test_the_interval_is_the_central_95_percent_of_resampled_sites():
    table = make_table(sites=12)
    table = pd.concat([table, table[:3], table[:1]], ignore_index=True)  # sites of one, two and three photos
    sites = [
        [(SCORE_WEIGHTS[target], true, guess) for target in TARGETS for true, guess in pairs(rows, target)]
        for _, rows in table.groupby(["State", "Sampling_Date"])
    ]
    assert sorted({len(site) for site in sites}) == [5, 10, 15]
    draw = random.Random(99)  # other draws than the tested ones, so equal up to chance
    scores = [r2(list(itertools.chain(*draw.choices(sites, k=len(sites))))) for _ in range(3000)]
    interval, _ = bootstrap_interval(table)
    expected = np.quantile(scores, [0.025, 0.975]).tolist()
    assert interval == pytest.approx(expected, abs=0.2 * statistics.stdev(scores))


def test_photos_of_one_site_are_drawn_together():
    # Four equal photos per site say no more than one, so the interval stays that of the sites.
    single, fourfold = make_table(), make_table(repeats=4)
    of_sites, drawn = bootstrap_interval(fourfold)
    assert drawn == "sites"
    assert of_sites == pytest.approx(bootstrap_interval(single)[0], abs=1e-9)
    of_photos, drawn = bootstrap_interval(without_sites(fourfold))
    assert drawn == "photos"
    assert of_sites[1] - of_sites[0] > 1.4 * (of_photos[1] - of_photos[0])


def test_a_site_is_a_state_and_a_date():
    table = make_table(sites=12)  # three states on each of four dates
    interval, _ = bootstrap_interval(table)
    by_date, _ = bootstrap_interval(table.assign(State="Tas"))
    by_state, _ = bootstrap_interval(table.assign(Sampling_Date="2015-01-05"))
    assert interval != by_date and interval != by_state and by_date != by_state


@pytest.mark.parametrize("column", ["State", "Sampling_Date"])
def test_photos_are_drawn_where_sites_are_unknown(column):
    table = make_table()
    photos, _ = bootstrap_interval(without_sites(table))
    assert bootstrap_interval(table.drop(columns=column)) == (photos, "photos")
    table.loc[3, column] = None
    assert bootstrap_interval(table) == (photos, "photos")


def test_a_single_site_has_a_score_and_no_interval():
    table = make_table().assign(State="Tas", Sampling_Date="2015-01-05")
    pooled = score_table(table)["pooled"]
    assert pooled["weighted_r2_interval"] is None and pooled["interval_over"] == "sites"
    assert pooled["weighted_r2"] == pytest.approx(weighted_r2_by_hand(table))


def test_a_single_photo_without_a_site_has_no_interval():
    assert bootstrap_interval(without_sites(make_table(sites=1))) == (None, "photos")


def test_a_site_without_any_grams_does_not_spoil_the_interval():
    table = make_table(sites=3)
    table.loc[0, list(TARGETS)] = 0.0  # drawn three times it leaves nothing to explain
    interval, _ = bootstrap_interval(table)
    assert interval is not None and all(math.isfinite(bound) for bound in interval)


@pytest.mark.parametrize("spoilt", [0.0, 7.3])
def test_a_truth_that_never_varies_gives_none_and_stays_json(spoilt):
    table = make_table().assign(**dict.fromkeys(TARGETS, spoilt))
    scores = score_table(table)
    assert scores["pooled"]["weighted_r2"] is None and scores["pooled"]["mean_r2"] is None
    assert scores["pooled"]["weighted_r2_interval"] is None
    assert scores["pooled"]["targets"]["GDM_g"]["r2"] is None
    assert scores["pooled"]["targets"]["GDM_g"]["mae"] > 0
    json.dumps(scores, allow_nan=False)


def test_a_prediction_that_is_no_number_gives_none_and_stays_json():
    table = make_table()
    table.loc[0, "Dry_Dead_g_pred"] = math.nan
    scores = score_table(table)
    assert scores["pooled"]["weighted_r2"] is None and scores["pooled"]["weighted_r2_interval"] is None
    assert scores["folds"]["0"]["weighted_r2"] is None
    assert scores["folds"]["1"]["weighted_r2"] is not None
    json.dumps(scores, allow_nan=False)


def test_a_fold_without_dead_grass_has_a_weighted_r2_but_no_mean_r2():
    table = make_table()
    table.loc[table["fold"] == 1, "Dry_Dead_g"] = 0.0
    scores = score_table(table)
    fold = scores["folds"]["1"]
    assert fold["mean_r2"] is None and fold["targets"]["Dry_Dead_g"]["r2"] is None
    assert fold["weighted_r2"] is not None and scores["pooled"]["mean_r2"] is not None
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def printed(scores: dict, width: int = 100) -> str:
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(PastureReport().render(scores, title="Out-of-fold scores"))
    return console.export_text()


def printed_rows(scores: dict) -> dict[str, list[list[str]]]:
    """The words of the printed rows by their first."""
    rows: dict[str, list[list[str]]] = {}
    for line in printed(scores).splitlines():
        if words := line.split():
            rows.setdefault(words[0], []).append(words[1:])
    return rows


def test_the_printed_table_contains_the_scores():
    scores = score_table(make_table(sites=20))
    rows = printed_rows(scores)
    pooled, folds = scores["pooled"], scores["folds"].values()
    for target in TARGETS:
        own = pooled["targets"][target]
        shown = [f"{own['r2']:.3f}", f"{own['rmse']:.2f}", f"{own['mae']:.2f}"]
        assert rows[target] == [[*shown, *(f"{fold['targets'][target]['r2']:.3f}" for fold in folds)]]
    assert rows["mean_r2"] == [[f"{pooled['mean_r2']:.3f}", *(f"{fold['mean_r2']:.3f}" for fold in folds)]]
    assert rows["photos"] == [["20", "7", "7", "6"]]
    text = " ".join(printed(scores).split())
    low, high = pooled["weighted_r2_interval"]
    per_fold = " ".join(f"{fold['weighted_r2']:.3f}" for fold in folds)
    assert f"weighted_r2 {pooled['weighted_r2']:.3f} {per_fold}" in text
    assert f"weighted_r2 of all folds pooled: {pooled['weighted_r2']:.3f}, 95 % {low:.3f} to {high:.3f}" in text
    assert "Out-of-fold scores" in text and "fold 2" in text
    assert "last epoch" not in text


def test_the_scores_of_a_constant_stand_below_those_of_the_run():
    scores = score_table(make_table(sites=20))
    constants = [scores["constant"]["pooled"], *scores["constant"]["folds"].values()]
    rows = {name: [f"{constant[name]:.3f}" for constant in constants] for name in ("weighted_r2", "mean_r2")}
    assert printed_rows(scores)["constant"] == list(rows.values())
    lines = [line.split()[0] for line in printed(scores).splitlines() if line.split()]
    start = lines.index("weighted_r2")
    assert lines[start : start + 5] == ["weighted_r2", "constant", "mean_r2", "constant", "photos"]
    assert "constant: every photo the mean of the other folds" in " ".join(printed(scores).split())


@pytest.mark.parametrize(("last", "text"), [(0.73149, "0.731"), (None, "-")])
def test_the_score_of_the_last_epochs_weights_is_printed_where_known(last, text):
    scores = score_table(make_table())
    low, high = scores["pooled"]["weighted_r2_interval"]
    scores["pooled_last"] = {"weighted_r2": last}
    expected = f"95 % {low:.3f} to {high:.3f}; by the last epoch's weights {text} constant:"
    assert expected in " ".join(printed(scores).split())


def test_square_brackets_in_a_folders_name_are_printed():
    grid = PastureReport().render(score_table(make_table()), title="Scores of [bold]run")
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(grid)
    assert "Scores of [bold]run" in console.export_text()


@pytest.mark.parametrize("noise", [6.0, 20.0])
def test_five_folds_fit_80_columns_whole(noise):
    scores = score_table(make_table(sites=40, folds=5, noise=noise))
    for fold in scores["folds"].values():
        fold["targets"]["Dry_Clover_g"]["r2"] = -12.345  # a fold with hardly any clover
    text = printed(scores, width=80)
    assert "…" not in text
    assert text.count("-12.345") == 5 and "fold 4" in text and "Dry_Clover_g" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def predictions(**changes) -> pd.DataFrame:
    """Six photos of 0 to 5 g, of which each target is predicted 1 g too high, in three states."""
    grams = {target: np.arange(6.0) for target in TARGETS}
    table = pd.DataFrame({**grams, **{f"{target}_pred": values + 1 for target, values in grams.items()}})
    return table.assign(**({"State": ["Tas", "Vic", "WA"] * 2} | changes))


def test_the_scatter_has_a_panel_per_target_with_its_r2():
    # Squared errors of 1 six times; around the mean 2.5 the squares sum up to 17.5.
    table = predictions(Dry_Clover_g=3.0, GDM_g_pred=np.arange(6.0))
    titles = [panel.get_title() for panel in scatter(table).axes]
    assert titles == [
        "Dry_Green_g, R2 0.66",
        "Dry_Dead_g, R2 0.66",
        "Dry_Clover_g, R2 -",
        "GDM_g, R2 1.00",
        "Dry_Total_g, R2 0.66",
    ]


@pytest.mark.parametrize(
    ("changes", "states"),
    [({}, ["Tas", "Vic", "WA"]), ({"State": "Tas"}, ["Tas"]), ({"State": ["WA", None] * 3}, ["WA", "unknown"])],
)
def test_the_scatter_shows_states_in_colours_of_their_own(changes, states):
    panel = scatter(predictions(**changes)).axes[0]
    assert [text.get_text() for text in panel.get_legend().get_texts()] == states
    assert len({tuple(dots.get_facecolor()[0]) for dots in panel.collections}) == len(states)
    points = [tuple(point) for dots in panel.collections for point in dots.get_offsets()]
    assert sorted(points) == [(grams, grams + 1) for grams in range(6)]


def test_without_states_all_photos_are_of_an_unknown_one():
    panel = scatter(predictions().drop(columns="State")).axes[0]
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["unknown"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("prediction", [0.5, math.nan, math.inf])
def test_the_picture_is_drawn_whatever_was_predicted(prediction, tmp_path):
    table = predictions()
    table.loc[2, "GDM_g_pred"] = prediction
    PastureReport().draw(table, tmp_path / "scatter.png")
    with Image.open(tmp_path / "scatter.png") as picture:
        assert picture.format == "PNG" and picture.width > 4 * picture.height


def test_grams_are_rounded_to_the_microgram():
    table = make_table().assign(GDM_g_pred=1.23456789, image_id="ID1")
    rounded = PastureReport().finished(table)
    assert rounded["GDM_g_pred"].tolist() == [1.234568] * len(table)
    assert rounded["Dry_Dead_g_pred"].to_numpy() == pytest.approx(table["Dry_Dead_g_pred"].to_numpy(), abs=5e-7)
    assert rounded["image_id"].tolist() == table["image_id"].tolist()


def test_an_undefined_score_is_printed_as_a_dash():
    table = make_table()
    table.loc[table["fold"] == 1, "Dry_Dead_g"] = 0.0
    table = table.assign(State="Tas", Sampling_Date="2015-01-05")
    text = printed(score_table(table))
    dead = next(line for line in text.splitlines() if "Dry_Dead_g" in line).split()
    assert dead[5] == "-"
    assert "None" not in text and "nan" not in text and "95 %" not in text
