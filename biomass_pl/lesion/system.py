"""What the lesion system tells of itself."""

from biomass_pl.systems import Option, Sample, System

SYSTEM = System(
    name="lesion",
    about="skin lesions, benign or malignant",
    data_modules=("biomass_pl.lesion.data.LesionDataModule",),
    tasks=("biomass_pl.lesion.task.LesionClassifier",),
    recognises="biomass_pl.lesion.tables.recognises",
    recipe="lesion_quick",
    sample=Sample(
        render="biomass_pl.lesion.sample.render.render_lesions",
        about="labelled skin lesions in the layout of ISIC 2024",
        options=(
            Option(name="photos", default=600, help="labelled photos"),
            Option(name="test_photos", default=12, help="photos without labels"),
        ),
    ),
)
