"""The evaluation suite in parts: what is measured, by whom, and how it is written down."""
