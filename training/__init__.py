"""Training package: corpus, stages, export and evaluation. `python -m training.reproduce` runs it all."""
