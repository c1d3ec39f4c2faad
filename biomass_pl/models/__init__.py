"""Plain torch networks; nothing here knows Lightning."""
