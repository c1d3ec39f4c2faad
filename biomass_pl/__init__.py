"""Cross-validated training on photographs, on PyTorch Lightning."""

__version__ = "0.1.0"
