"""The commands that train and predict: configurations to objects, fold after fold."""
