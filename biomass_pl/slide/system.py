"""What the slide system tells of itself."""

from biomass_pl.systems import Option, Sample, System

SYSTEM = System(
    name="slide",
    about="pathology slides and their reports",
    data_modules=("biomass_pl.slide.data.SlideDataModule",),
    tasks=("biomass_pl.slide.task.SlideCaptioning",),
    recognises="biomass_pl.slide.specimens.recognises",
    recipe="slide_quick",
    sample=Sample(
        render="biomass_pl.slide.sample.render.render_specimens",
        about="pathology specimens, each a bag of feature vectors and a report, in the published layouts",
        options=(
            Option(name="specimens", default=200, help="specimens"),
            Option(name="fewest_vectors", default=20, help="vectors in the smallest bag"),
            Option(name="most_vectors", default=200, help="vectors in the largest bag"),
            Option(name="layout", default="hdf5", help="how they are stored", choices=("hdf5", "directories")),
        ),
    ),
)
