"""Leaf disease, told from photos of single leaves: pre-training without labels, then classification."""
