"""What the leaf system tells of itself."""

from biomass_pl.systems import Option, Sample, System

SYSTEM = System(
    name="leaf",
    about="leaf diseases",
    data_modules=("biomass_pl.leaf.data.LeafDataModule",),
    tasks=("biomass_pl.leaf.task.LeafClassifier",),
    recognises="biomass_pl.leaf.tables.recognises",
    recipe="leaf_quick",
    sample=Sample(
        render="biomass_pl.leaf.sample.render.render_leaves",
        about="cotton leaves of seven classes in the published layout",
        options=(
            Option(name="photos", default=420, help="labelled photos"),
            Option(name="augmented", default=0, help="changed copies of each"),
            Option(name="unlabelled", default=0, help="photos of other leaves without labels"),
        ),
    ),
)
