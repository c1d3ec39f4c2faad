"""LightningDataModules, one instance per fold, and what they are made of."""
