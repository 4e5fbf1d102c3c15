"""Text as people write it: normalised, as phonemes, on the time axis; captions; phonemes heard in sound."""
