"""Grams of dry matter from quadrat photos."""
