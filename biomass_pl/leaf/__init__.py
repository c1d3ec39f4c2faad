"""Leaf disease from photographs: classes, self-supervision and calibrated probabilities."""
