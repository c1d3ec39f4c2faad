"""A rendered pasture: what grows, and its photos."""
