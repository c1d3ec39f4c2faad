"""Cross-validated estimates of pasture biomass from photographs, on PyTorch Lightning."""

__version__ = "0.1.0"
