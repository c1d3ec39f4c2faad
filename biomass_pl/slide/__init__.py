"""Pathology slides and their reports: images and texts compared, and reports written, by contrastive captioning."""
