"""How far maps can be relied on, for the models and pictures at hand."""
