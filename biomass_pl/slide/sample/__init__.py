"""A rendered sample of pathology specimens: bags of feature vectors, and reports whose words follow from them."""
