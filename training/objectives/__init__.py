"""One file per objective; each implements training.trainer.Objective."""
