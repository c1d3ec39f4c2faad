"""The ground that a photo shows."""

QUADRAT_MM = (700.0, 300.0)
"""Length and width of the quadrat: 70 x 30 cm, as the paper on the data of CSIRO Image2Biomass says. A photo shows it
2:1, so pixels are not square on the ground."""

QUADRAT_M2 = QUADRAT_MM[0] * QUADRAT_MM[1] / 1e6
"""Its area: 0.21 square metres, of which the two halves of a photo show one half each."""
