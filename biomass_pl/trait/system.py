"""What the trait system tells of itself."""

from biomass_pl.systems import Option, Sample, System

SYSTEM = System(
    name="trait",
    about="any measured numbers from photos and a table",
    data_modules=("biomass_pl.trait.data.RegressionDataModule",),
    tasks=("biomass_pl.trait.task.Regression",),
    recognises="biomass_pl.trait.tables.recognises",
    recipe="regression",
    sample=Sample(
        render="biomass_pl.trait.sample.render.render_plots",
        about="plots of wheat with two traits, some of them not measured",
        options=(
            Option(name="photos", default=120, help="measured plots"),
            Option(name="test_photos", default=10, help="plots that are not measured"),
            Option(name="width", default=480, help="pixels across a photo"),
        ),
    ),
)
