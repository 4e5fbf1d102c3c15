"""Independent judges: none of them is used in training."""
