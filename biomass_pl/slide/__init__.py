"""Pathology slides and their reports: contrastive captioning of bags of feature vectors."""
