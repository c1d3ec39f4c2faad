"""What the pasture system tells of itself."""

from biomass_pl.systems import Option, PredictionStep, Sample, System

SYSTEM = System(
    name="pasture",
    about="grams of green, dead and clover dry matter from quadrat photos",
    data_modules=("biomass_pl.pasture.data.PastureDataModule",),
    tasks=(
        "biomass_pl.pasture.task.HierarchicalRatio",
        "biomass_pl.pasture.task.SoftmaxRatio",
        "biomass_pl.pasture.five_head.FiveHead",
        "biomass_pl.pasture.density.PatchDensity",
    ),
    recognises="biomass_pl.pasture.tables.recognises",
    recipe="quickstart",
    sample=Sample(
        render="biomass_pl.pasture.sample.render.render_sample",
        about="a labelled pasture in the layout of CSIRO Image2Biomass",
        options=(
            Option(name="photos", default=120, help="labelled photos"),
            Option(name="test_photos", default=10, help="photos without labels"),
            Option(name="width", default=2000, help="pixels across a photo"),
        ),
    ),
    prediction_steps=(
        PredictionStep(
            name="derive_dead",
            apply="biomass_pl.pasture.postprocess.derive_dead",
            help="replace Dead by max(0, Total - GDM)",
        ),
    ),
)
