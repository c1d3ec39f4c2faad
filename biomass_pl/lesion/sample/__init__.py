"""A rendered sample of skin lesions: patients, rows of metadata, pictures."""
