"""The evaluation suite: which clips are made, how they are measured, and how the figures are written."""
