"""Scores, for the training loop and for tables."""
