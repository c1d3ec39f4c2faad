"""Losses in grams or in their logarithm."""
