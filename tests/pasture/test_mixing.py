"""MixUp and CutMix: who is mixed with whom, and that pixels and targets agree about how much."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from biomass_pl.data.splits import Split
from biomass_pl.errors import ConfigError
from biomass_pl.pasture.classes import class_codes
from biomass_pl.pasture.data import PastureDataModule
from biomass_pl.pasture.mixing import CutMix, MixingConfig, MixUp, Partners, draw_mix
from biomass_pl.pasture.tables import read_labels
from biomass_pl.pasture.targets import TARGETS

PHOTOS = 12
EPOCHS = 6
WAYS = {"MixUp": {"mixup_prob": 1.0}, "CutMix": {"cutmix_prob": 1.0}}


def config(mixup_prob=0.0, mixup_alpha=0.4, cutmix_prob=0.0, cutmix_alpha=1.0):
    return MixingConfig(
        mixup_prob=mixup_prob, mixup_alpha=mixup_alpha, cutmix_prob=cutmix_prob, cutmix_alpha=cutmix_alpha
    )


def drawn(settings_, count=400, view_shape=(20, 30)):
    rng = np.random.default_rng(0)
    return [draw_mix(settings_, view_shape, rng) for _ in range(count)]


def grams_of(number):
    """Targets that tell of which two photos, and how, they were mixed: see `partner_and_share`."""
    return [float(number), float(number * number), 1.0, 1.0, 1.0]


def partner_and_share(own, target):
    """Number of the partner and share of the photo itself; no partner where nothing was mixed."""
    first, second = (float(value) for value in target[:2])
    if math.isclose(first, own, abs_tol=1e-4) and math.isclose(second, own * own, abs_tol=1e-3):
        return None, 1.0
    partner = round((second - own * own) / (first - own)) - own
    return partner, (first - partner) / (own - partner)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Photos without a table: white those of even number, black the others."""
    folder = tmp_path_factory.mktemp("mixing") / "data"
    (folder / "train").mkdir(parents=True)
    for number in range(PHOTOS):
        Image.new("RGB", (32, 16), "black" if number % 2 else "white").save(folder / f"train/p{number:02}.png")
    return folder


def write_table(root, classes, columns=("Sampling_Date", "State", "Species")):
    """A label table of photos with the given dates, states and species."""
    rows = []
    for number, values in enumerate(classes):
        known = dict(zip(("Sampling_Date", "State", "Species"), values, strict=True))
        for name, grams in zip(TARGETS, grams_of(number), strict=True):
            rows.append(
                {
                    "sample_id": f"p{number:02}__{name}",
                    "image_path": f"train/p{number:02}.png",
                    "target_name": name,
                    "target": grams,
                    **{column: known[column] for column in columns},
                }
            )
    pd.DataFrame(rows).to_csv(root / "train.csv", index=False)


def mixing_module(root, folds, **changes):
    """A data module whose only random change is the mixing."""
    plain = {"tile_size": 8, "num_workers": 0, "aug_prob": 0.0, "batch_size": 5}
    module = PastureDataModule(root=root, **{**plain, **changes})
    module.use(Split(fold=0, folds=pd.Series(folds, index=module.items()["image_id"])))
    return module


def training_items(module, epochs=EPOCHS):
    dataset = module.train_dataloader().dataset
    return [dataset[(index, epoch)] for epoch in range(epochs) for index in range(len(dataset))]


def number_of(item):
    return int(item["id"].removeprefix("p"))


ALIKE = [("2015/9/4", "Tas", "Ryegrass")] * PHOTOS
HALF = [int(number >= PHOTOS // 2) for number in range(PHOTOS)]

tables = st.lists(
    st.tuples(
        st.sampled_from(["2015/9/4", "2014/9/20", "2015/6/1", "2015/3/1", ""]),  # no class for March
        st.sampled_from(["Tas", "Vic", "Atlantis", ""]),
        st.sampled_from(["Clover", "WhiteClover", "Ryegrass", "Moss", ""]),
    ),
    min_size=PHOTOS,
    max_size=PHOTOS,
)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=25, deadline=None)
@given(classes=tables, held_out=st.lists(st.booleans(), min_size=PHOTOS, max_size=PHOTOS), seed=st.integers(0, 99))
def test_a_partner_is_another_training_photo_of_the_same_kind_and_pixels_agree_with_the_target(
    root, way, classes, held_out, seed
):
    folds = [0 if held else 1 for held in held_out]
    write_table(root, classes)
    module = mixing_module(root, folds, seed=seed, **WAYS[way])
    codes = class_codes(module.items())
    kinds = list(zip(codes["species"], codes["month"], codes["state"], strict=True))
    for item in training_items(module, epochs=3):
        own = number_of(item)
        partner, share = partner_and_share(own, item["target"])
        alike = [n for n in range(PHOTOS) if n != own and folds[n] == 1 and kinds[n] == kinds[own]]
        if partner is None:
            assert (item["tiles"] == (0 if own % 2 else 255)).all()
            continue
        assert partner in alike and -1 not in kinds[own]
        left, right = item["tiles"]
        assert torch.equal(left, right)
        if own % 2 != partner % 2:
            bright = item["tiles"].double().mean().item() / 255
            assert (1 - bright if own % 2 else bright) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_photos_with_partners_are_mixed_with_all_of_them_and_others_with_none(root, way):
    classes = [*ALIKE[:6], ("2015/6/1", "Tas", "Ryegrass"), *[("2015/3/1", "Tas", "Ryegrass")] * 5]
    write_table(root, classes)
    found = {number: set() for number in range(1, PHOTOS)}
    for item in training_items(mixing_module(root, [0] + [1] * (PHOTOS - 1), **WAYS[way]), epochs=40):
        found[number_of(item)].add(partner_and_share(number_of(item), item["target"])[0])
    for number in range(1, 6):
        assert found[number] - {None} == set(range(1, 6)) - {number}
    assert all(found[number] == {None} for number in range(6, PHOTOS))


@pytest.mark.parametrize("way", WAYS)
def test_share_of_pixels_and_target_agree_on_a_white_photo_among_black_ones(root, way):
    """Measured without knowing how: the target's first gram and the mean brightness."""
    write_table(root, ALIKE)
    shares = []
    for item in training_items(mixing_module(root, HALF, seed=1, **WAYS[way]), epochs=20):
        partner, share = partner_and_share(number_of(item), item["target"])
        if partner is not None and number_of(item) % 2 == 0 and partner % 2 == 1:
            shares.append(share)
            for view in item["tiles"]:
                assert view.double().mean().item() / 255 == pytest.approx(share, abs=1e-6)
    assert len(shares) > 15 and max(shares) - min(shares) > 0.5


def test_labels_other_than_the_target_and_the_id_stay(root):
    write_table(root, ALIKE)
    plain = training_items(mixing_module(root, HALF))
    mixed = training_items(mixing_module(root, HALF, mixup_prob=1.0))
    for one, other in zip(plain, mixed, strict=True):
        assert one.keys() == other.keys() and one["id"] == other["id"]
        assert all(torch.equal(one[name], other[name]) for name in ("state", "month", "species"))
        assert other["target"].dtype == torch.float32
    assert any(not torch.equal(one["target"], other["target"]) for one, other in zip(plain, mixed, strict=True))


def test_cutmix_pastes_one_box_into_both_views():
    own, partner = np.zeros((2, 6, 8, 3), np.uint8), np.full((2, 6, 8, 3), 9, np.uint8)
    mix = CutMix(rows=(1, 3), columns=(2, 8), view_shape=(6, 8))
    mixed = mix.views(own, partner)
    box = np.zeros((6, 8), bool)
    box[1:3, 2:8] = True
    assert all(np.array_equal(mixed[view, ..., channel] == 9, box) for view in (0, 1) for channel in range(3))
    assert mix.own_share == 0.75 and not own.any()


def test_mixup_is_the_weighted_mean_as_worked_by_hand():
    own, partner = np.uint8([[0, 255, 200, 10]]), np.uint8([[255, 0, 100, 10]])
    assert MixUp(51).own_share == 0.2
    assert MixUp(51).views(own, partner).tolist() == [[204, 51, 120, 10]]
    assert MixUp(0).views(own, partner).tolist() == partner.tolist()
    assert MixUp(255).views(own, partner).tolist() == own.tolist()


@settings(max_examples=30, deadline=None)
@given(level=st.integers(0, 255), own=st.integers(0, 255), partner=st.integers(0, 255))
def test_mixed_pixels_are_rounded_to_the_nearest(level, own, partner):
    mixed = MixUp(level).views(np.full((2, 1, 1, 3), own, np.uint8), np.full((2, 1, 1, 3), partner, np.uint8))
    assert mixed.dtype == np.uint8
    assert abs(int(mixed[0, 0, 0, 0]) - (level * own + (255 - level) * partner) / 255) <= 0.5


@settings(max_examples=50, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 999), alpha=st.floats(0.05, 20))
def test_every_box_lies_in_the_view_and_its_share_is_exact(height, width, seed, alpha):
    mix = draw_mix(config(cutmix_prob=1.0, cutmix_alpha=alpha), (height, width), np.random.default_rng(seed))
    (top, bottom), (left, right) = mix.rows, mix.columns
    assert 0 <= top <= bottom <= height and 0 <= left <= right <= width
    views = np.zeros((2, height, width, 3), np.uint8)
    assert mix.own_share == pytest.approx(1 - (mix.views(views, views + 1) == 1).mean(), abs=1e-12)


@pytest.mark.parametrize("way", ["mixup", "cutmix"])
def test_a_larger_alpha_brings_the_shares_together(way):
    spreads = []
    for alpha in (0.2, 1.0, 8.0):
        mixes = drawn(config(**{f"{way}_prob": 1.0, f"{way}_alpha": alpha}))
        spreads.append(np.std([mix.own_share for mix in mixes]))
    assert spreads[0] > 1.2 * spreads[1] > 1.4 * spreads[2]


def test_shares_of_mixup_have_the_mean_and_spread_of_their_beta_distribution():
    for alpha in (0.4, 2.0):
        shares = np.array([mix.own_share for mix in drawn(config(mixup_prob=1.0, mixup_alpha=alpha), count=4000)])
        assert shares.mean() == pytest.approx(0.5, abs=0.03)
        assert shares.std() == pytest.approx(0.5 / math.sqrt(2 * alpha + 1), abs=0.015)
        assert np.allclose(shares * 255, np.round(shares * 255), atol=1e-9)


def test_mixup_is_tried_first_and_cutmix_among_the_rest():
    kinds = [type(mix) for mix in drawn(config(mixup_prob=0.4, cutmix_prob=0.5), count=2000)]
    counts = {kind: kinds.count(kind) / 2000 for kind in (MixUp, CutMix, type(None))}
    assert counts == pytest.approx({MixUp: 0.4, CutMix: 0.3, type(None): 0.3}, abs=0.04)
    assert {type(mix) for mix in drawn(config(mixup_prob=1.0, cutmix_prob=1.0))} == {MixUp}


@settings(max_examples=50, deadline=None)
@given(
    classes=st.lists(st.tuples(st.integers(-1, 1), st.integers(-1, 1), st.integers(-1, 1)), max_size=20),
    seed=st.integers(0, 99),
)
def test_partners_agree_in_all_classes_and_unknown_ones_agree_with_nothing(classes, seed):
    partners, rng = Partners(np.array(classes)), np.random.default_rng(seed)
    for position, kind in enumerate(classes):
        others = [n for n, other in enumerate(classes) if n != position and other == kind and -1 not in kind]
        partner = partners.draw(position, rng)
        assert partner in others if others else partner is None


def test_a_partner_is_changed_by_draws_of_its_own(root):
    """Both photos are the same picture: where the mix is not one of its views, they were turned differently."""
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    folder = root.parent / "same"
    (folder / "train").mkdir(parents=True, exist_ok=True)
    for number in range(PHOTOS):
        Image.fromarray(np.concatenate([picture, picture], axis=1)).save(folder / f"train/p{number:02}.png")
    write_table(folder, ALIKE)
    changed = {"aug_prob": 0.5, "tile_size": 8}
    alone = training_items(mixing_module(folder, HALF, **changed), epochs=4)
    mixed = training_items(mixing_module(folder, HALF, **changed, cutmix_prob=1.0, cutmix_alpha=8.0), epochs=4)
    equal = [(one["tiles"] == other["tiles"]).float().mean().item() for one, other in zip(alone, mixed, strict=True)]
    assert np.mean(equal) < 0.9  # a partner with the same draws would leave every item as it was
    assert min(equal) > 0.05  # what is outside of the box is the photo as it is without mixing


@pytest.mark.parametrize("way", WAYS)
def test_mixed_items_depend_on_seed_epoch_photo_and_training_fold_alone(rendered, way):
    def batches(num_workers=0, batch_size=5, epoch=1):
        module = PastureDataModule(
            root=rendered, tile_size=16, num_workers=num_workers, batch_size=batch_size, **WAYS[way]
        )
        folds = module.make_folds()
        module.use(Split(fold=0, folds=folds))
        loader = module.train_dataloader()
        loader.sampler.set_epoch(epoch)
        return {
            image_id: (tiles, target)
            for batch in loader
            for image_id, tiles, target in zip(batch["id"], batch["tiles"], batch["target"], strict=True)
        }

    alone = batches()
    for other in (batches(num_workers=2), batches(batch_size=3)):
        assert alone.keys() == other.keys()
        for image_id, (tiles, target) in alone.items():
            assert torch.equal(tiles, other[image_id][0]) and torch.equal(target, other[image_id][1])
    table = read_labels(rendered).set_index("image_id")
    own = torch.tensor(table.loc[list(alone), list(TARGETS)].to_numpy(np.float32))
    assert not torch.equal(torch.stack([target for _, target in alone.values()]), own)
    other_epoch = batches(epoch=2)
    assert any(not torch.equal(target, other_epoch[image_id][1]) for image_id, (_, target) in alone.items())


def test_about_as_many_photos_are_mixed_as_asked(root):
    write_table(root, ALIKE)
    items = training_items(mixing_module(root, HALF, mixup_prob=0.3, mixup_alpha=4.0), epochs=50)
    mixed = [partner_and_share(number_of(item), item["target"])[0] is not None for item in items]
    assert 0.22 < np.mean(mixed) < 0.38


@pytest.mark.parametrize("source", ["held_out", "test"])
def test_validation_and_prediction_never_mix(rendered, source):
    def tiles(**mixing):
        module = PastureDataModule(root=rendered, tile_size=16, num_workers=0, **mixing)
        module.use(Split(fold=0, folds=module.make_folds()))
        module.select(source)
        return [batch["tiles"] for loader in (module.val_dataloader(), module.predict_dataloader()) for batch in loader]

    plain, mixing = tiles(), tiles(mixup_prob=1.0, cutmix_prob=1.0)
    assert len(plain) == len(mixing) > 1
    assert all(torch.equal(one, other) for one, other in zip(plain, mixing, strict=True))


@pytest.mark.parametrize("setting", ["mixup_prob", "cutmix_prob"])
@pytest.mark.parametrize("column", ["Sampling_Date", "State", "Species"])
def test_mixing_without_a_column_it_needs_is_refused_by_name(root, setting, column):
    write_table(root, ALIKE, columns=[name for name in ("Sampling_Date", "State", "Species") if name != column])
    PastureDataModule(root=root).check()
    with pytest.raises(ConfigError) as caught:
        PastureDataModule(root=root, **{setting: 0.1}).check()
    message = str(caught.value)
    assert f"data.{setting}" in message and f"no column {column}." in message
