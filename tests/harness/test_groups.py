"""What the data of every system say they keep together is what their folds keep together."""

from functools import partial
from pathlib import Path

import pytest

from biomass_pl.leaf.data import LeafDataModule
from biomass_pl.lesion.data import LesionDataModule
from biomass_pl.pasture.data import PastureDataModule
from biomass_pl.slide.data import SlideDataModule

SLIDE_FILES = {
    "hdf5_filename": Path("specimens.hdf5"),
    "hdf5_feature_attribute": "patch_features_comp_0",
    "hdf5_text_attribute": "report",
}
SYSTEMS = {
    "rendered": PastureDataModule,
    "lesions": LesionDataModule,
    "leaves": LeafDataModule,
    "slides": partial(SlideDataModule, **SLIDE_FILES),
}


@pytest.mark.parametrize("fixture", SYSTEMS)
def test_groups_name_every_item_and_lie_in_one_fold_each(fixture, request):
    data = SYSTEMS[fixture](root=request.getfixturevalue(fixture), num_folds=2, num_workers=0)
    groups = data.groups()
    assert sorted(groups.index) == sorted(data.names()) and groups.notna().all()
    folds = data.make_folds().loc[groups.index]
    assert (folds.groupby(groups.to_numpy()).nunique() == 1).all()
    assert groups.nunique() > 2


@pytest.mark.parametrize(
    ("strategy", "column"), [("group_date", "Sampling_Date"), ("stratified", None), ("group_site", "both")]
)
def test_a_pasture_tells_the_groups_of_its_strategy(strategy, column, rendered, tmp_path):
    data = PastureDataModule(root=rendered, cv_strategy=strategy, num_workers=0)
    items, groups = data.items().set_index("image_id"), data.groups()
    if column is None:
        assert groups is None
    elif column == "both":
        assert groups.equals((items["State"] + " " + items["Sampling_Date"]).rename(None))
    else:
        assert groups.equals(items[column].rename(None))
    data.make_folds().rename_axis("sample_id_prefix").reset_index().to_csv(tmp_path / "folds.csv", index=False)
    assert PastureDataModule(root=rendered, fold_csv=tmp_path / "folds.csv", num_workers=0).groups() is None
