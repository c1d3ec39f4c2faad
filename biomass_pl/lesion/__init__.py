"""Skin lesions: benign or malignant."""
