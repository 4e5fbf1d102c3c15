"""The synthetic talking-head corpus: heads, voices, sentences, motion, storage."""
