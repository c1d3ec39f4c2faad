"""A rendered sample of pasture: labels and photos."""
