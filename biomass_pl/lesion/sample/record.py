"""Makes the row of metadata of an invented lesion: measured from how it looks, with noise."""

import math

import numpy as np

from biomass_pl.data.rendering import stream
from biomass_pl.lesion.sample.patients import Lesion

Record = dict[str, str | float | None]

# Only the train table has these: the label, and what is known because the diagnosis is.
TRAIN_ONLY = (
    "target",
    "lesion_id",
    "iddx_full",
    "iddx_1",
    "iddx_2",
    "iddx_3",
    "iddx_4",
    "iddx_5",
    "mel_mitotic_index",
    "mel_thick_mm",
    "tbp_lv_dnn_lesion_confidence",
)

# In the order of the challenge's tables.
TRAIN_COLUMNS = (
    "isic_id",
    "target",
    "patient_id",
    "age_approx",
    "sex",
    "anatom_site_general",
    "clin_size_long_diam_mm",
    "image_type",
    "tbp_tile_type",
    "tbp_lv_A",
    "tbp_lv_Aext",
    "tbp_lv_B",
    "tbp_lv_Bext",
    "tbp_lv_C",
    "tbp_lv_Cext",
    "tbp_lv_H",
    "tbp_lv_Hext",
    "tbp_lv_L",
    "tbp_lv_Lext",
    "tbp_lv_areaMM2",
    "tbp_lv_area_perim_ratio",
    "tbp_lv_color_std_mean",
    "tbp_lv_deltaA",
    "tbp_lv_deltaB",
    "tbp_lv_deltaL",
    "tbp_lv_deltaLB",
    "tbp_lv_deltaLBnorm",
    "tbp_lv_eccentricity",
    "tbp_lv_location",
    "tbp_lv_location_simple",
    "tbp_lv_minorAxisMM",
    "tbp_lv_nevi_confidence",
    "tbp_lv_norm_border",
    "tbp_lv_norm_color",
    "tbp_lv_perimeterMM",
    "tbp_lv_radial_color_std_max",
    "tbp_lv_stdL",
    "tbp_lv_stdLExt",
    "tbp_lv_symm_2axis",
    "tbp_lv_symm_2axis_angle",
    "tbp_lv_x",
    "tbp_lv_y",
    "tbp_lv_z",
    "attribution",
    "copyright_license",
    *TRAIN_ONLY[1:],
)
TEST_COLUMNS = tuple(column for column in TRAIN_COLUMNS if column not in TRAIN_ONLY)

# tbp_lv_location, tbp_lv_location_simple, anatom_site_general, how often, and roughly where on the body in mm:
# to the left, up from the feet, to the front.
Place = tuple[str, str, str | None, float, tuple[float, float, float]]

PLACES: tuple[Place, ...] = (
    ("Head & Neck", "Head & Neck", "head/neck", 3, (0, 1560, 40)),
    ("Torso Front", "Torso Front", "anterior torso", 1, (0, 1200, 110)),
    ("Torso Front Top Half", "Torso Front", "anterior torso", 11, (0, 1330, 110)),
    ("Torso Front Bottom Half", "Torso Front", "anterior torso", 8, (0, 1080, 110)),
    ("Torso Back", "Torso Back", "posterior torso", 1, (0, 1200, -110)),
    ("Torso Back Top Third", "Torso Back", "posterior torso", 15, (0, 1380, -110)),
    ("Torso Back Middle Third", "Torso Back", "posterior torso", 10, (0, 1200, -110)),
    ("Torso Back Bottom Third", "Torso Back", "posterior torso", 5, (0, 1030, -110)),
    ("Left Arm - Upper", "Left Arm", "upper extremity", 5, (260, 1270, 0)),
    ("Left Arm - Lower", "Left Arm", "upper extremity", 3, (400, 1000, 0)),
    ("Right Arm", "Right Arm", "upper extremity", 1, (-330, 1150, 0)),
    ("Right Arm - Upper", "Right Arm", "upper extremity", 5, (-260, 1270, 0)),
    ("Right Arm - Lower", "Right Arm", "upper extremity", 3, (-400, 1000, 0)),
    ("Left Leg", "Left Leg", "lower extremity", 1, (130, 500, 0)),
    ("Left Leg - Upper", "Left Leg", "lower extremity", 6, (110, 720, 0)),
    ("Left Leg - Lower", "Left Leg", "lower extremity", 5, (150, 300, 0)),
    ("Right Leg", "Right Leg", "lower extremity", 1, (-130, 500, 0)),
    ("Right Leg - Upper", "Right Leg", "lower extremity", 6, (-110, 720, 0)),
    ("Right Leg - Lower", "Right Leg", "lower extremity", 5, (-150, 300, 0)),
    ("Unknown", "Unknown", None, 1, (0, 1000, 0)),
)
TEST_ONLY_PLACE: Place = ("Left Arm", "Left Arm", "upper extremity", 0, (330, 1150, 0))
# Skin that sees the sun is more often malignant.
HEAD_FACTOR = 4

# Spread (log) of the errors with which outline and colours are measured: the picture shows more than the table tells.
OUTLINE_ERROR = 0.90
COLOUR_ERROR = 1.00

BENIGN_BIOPSIED = 0.05


def record(lesion: Lesion, *, place: Place | None = None) -> Record:
    """Describes a lesion in the columns of the train table.

    Args:
        lesion: What to describe.
        place: Where it is; by default somewhere in PLACES.
    """
    rng = stream(lesion.key, "record")
    patient = lesion.patient
    identity: Record = {
        "isic_id": lesion.identity,
        "target": int(lesion.malignant),
        "patient_id": patient.identity,
        "age_approx": patient.age,
        "sex": patient.sex,
        "image_type": "TBP tile: close-up",
        "tbp_tile_type": "3D: white" if patient.white_light else "3D: XP",
        "attribution": patient.clinic,
        "copyright_license": "CC-0",
    }
    position = _position(place or _place(lesion, rng), rng)
    return identity | position | _colours(lesion, rng) | _shape(lesion, rng) | _diagnosis(lesion, rng)


def _place(lesion: Lesion, rng: np.random.Generator) -> Place:
    often = np.array([place[3] for place in PLACES])
    if lesion.malignant:
        often[0] *= HEAD_FACTOR
    return PLACES[int(rng.choice(len(PLACES), p=often / often.sum()))]


def _position(place: Place, rng: np.random.Generator) -> Record:
    location, simple, site, _, centre = place
    left, up, front = rng.normal(centre, (50, 60, 30)).round(4).tolist()
    return {
        "anatom_site_general": site,
        "tbp_lv_location": location,
        "tbp_lv_location_simple": simple,
        "tbp_lv_x": left,
        "tbp_lv_y": up,
        "tbp_lv_z": front,
    }


def _colours(lesion: Lesion, rng: np.random.Generator) -> Record:
    """Colours (CIELAB) of the lesion and of the skin around it, their difference, and their variation."""
    look = lesion.look
    skin = rng.normal(look.skin, 0.5)
    delta = rng.normal(look.contrast, (1.0, 0.8, 0.8))
    inside = skin + delta
    # One error for all: they are read from the same pixels.
    variegation = look.variegation * math.exp(rng.normal(0, COLOUR_ERROR))
    errors = np.exp(rng.normal(0, 0.12, 4))
    values = {
        "deltaL": delta[0],
        "deltaA": delta[1],
        "deltaB": delta[2],
        "deltaLB": math.hypot(delta[0], delta[2]),
        "deltaLBnorm": 30 * math.hypot(delta[0], delta[2]) / skin[0],
        "color_std_mean": 4.5 * variegation * errors[0],
        "norm_color": 10 * (1 - math.exp(-variegation * errors[1] / 0.75)),
        "radial_color_std_max": 4.0 * variegation * errors[2],
        "stdL": (0.8 - 0.06 * delta[0] + 2 * variegation) * errors[3],
        "stdLExt": 1.3 + 0.1 * lesion.patient.hairs + 0.05 * lesion.patient.freckles + abs(rng.normal(0, 0.4)),
    }
    for suffix, (lightness, red, yellow) in (("", inside), ("ext", skin)):
        values |= {
            f"L{suffix}": lightness,
            f"A{suffix}": red,
            f"B{suffix}": yellow,
            f"C{suffix}": math.hypot(red, yellow),
            f"H{suffix}": math.degrees(math.atan2(yellow, red)),
        }
    return {f"tbp_lv_{name}": round(float(value), 6) for name, value in values.items()}


def _shape(lesion: Lesion, rng: np.random.Generator) -> Record:
    """Size, outline and symmetry."""
    look = lesion.look
    longest = look.diameter_mm * math.exp(rng.normal(0, 0.04))
    shortest = longest * min(look.roundness * math.exp(rng.normal(0, 0.04)), 1.0)
    irregularity = look.irregularity * math.exp(rng.normal(0, OUTLINE_ERROR))
    area = math.pi / 4 * longest * shortest
    ellipse = math.pi * math.sqrt((longest**2 + shortest**2) / 2)
    perimeter = ellipse * (1 + 1.9 * irregularity)
    return {
        "clin_size_long_diam_mm": round(longest, 2),
        "tbp_lv_areaMM2": round(area, 6),
        "tbp_lv_perimeterMM": round(perimeter, 6),
        "tbp_lv_area_perim_ratio": round(perimeter**2 / area, 6),
        "tbp_lv_minorAxisMM": round(shortest, 6),
        "tbp_lv_eccentricity": round(math.sqrt(1 - (shortest / longest) ** 2), 6),
        "tbp_lv_norm_border": round(10 * (1 - math.exp(-irregularity / 0.18)), 6),
        "tbp_lv_symm_2axis": round(min(0.1 + look.asymmetry * math.exp(rng.normal(0, 0.35)), 1.0), 6),
        "tbp_lv_symm_2axis_angle": 5 * int(rng.integers(36)),
    }


def _diagnosis(lesion: Lesion, rng: np.random.Generator) -> Record:
    """The scores of the scanner's own classifiers, and what the biopsy found."""
    nevus = rng.normal(3.2 - 0.9 * lesion.malignant, 1.8)
    sure = rng.normal(2.5 + 1.5 * lesion.malignant, 2.0)
    invasive, biopsied = lesion.malignant and rng.random() < 0.5, lesion.malignant or rng.random() < BENIGN_BIOPSIED
    found: tuple[str, ...] = ("Benign",)
    if lesion.malignant:
        found = (
            "Malignant",
            "Malignant melanocytic proliferations (Melanoma)",
            "Melanoma Invasive" if invasive else "Melanoma in situ",
        )
    elif biopsied:
        found = ("Benign", "Benign melanocytic proliferations", "Nevus")
    levels = dict(zip((f"iddx_{level}" for level in range(1, 6)), (*found, *[None] * 5), strict=False))
    return {
        "tbp_lv_nevi_confidence": round(100 / (1 + math.exp(-nevus)), 6),
        "tbp_lv_dnn_lesion_confidence": round(100 / (1 + math.exp(-sure)), 6),
        "lesion_id": lesion.identity.replace("ISIC", "IL") if biopsied else None,
        "iddx_full": "::".join(found),
        "mel_mitotic_index": str(rng.choice(["0/mm^2", "<1/mm^2", "1/mm^2"])) if invasive else None,
        "mel_thick_mm": round(float(rng.gamma(2, 0.4)) + 0.1, 1) if invasive else None,
    } | levels
