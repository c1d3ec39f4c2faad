"""The five biomass targets: their names, order, and weights in the competition's score."""

from types import MappingProxyType

TARGETS = ("Dry_Green_g", "Dry_Dead_g", "Dry_Clover_g", "GDM_g", "Dry_Total_g")
"""Column names in the fixed order of every prediction; grams per quadrat."""

SCORE_WEIGHTS = MappingProxyType(
    {"Dry_Green_g": 0.1, "Dry_Dead_g": 0.1, "Dry_Clover_g": 0.1, "GDM_g": 0.2, "Dry_Total_g": 0.5}
)
"""Weight of each target in the score of CSIRO Image2Biomass."""

SUMS = MappingProxyType({"GDM_g": ("Dry_Green_g", "Dry_Clover_g"), "Dry_Total_g": ("GDM_g", "Dry_Dead_g")})
"""Targets that are sums of others."""

GREEN, DEAD, CLOVER, GDM, TOTAL = range(len(TARGETS))
