"""Rendered plots of a crop with measured traits."""
