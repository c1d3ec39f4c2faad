"""A rendered sample of cotton leaves: healthy, and with six kinds of damage."""
