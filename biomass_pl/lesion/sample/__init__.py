"""Rendered skin lesions: patients, records, pictures."""
