"""Cotton leaves: which disease."""
