"""Any measured numbers from photos."""
