"""LightningModules: how each system is trained."""
