"""The model in other processes, on this machine or others, for any number of pages (docs/serving.md)."""


class EngineError(RuntimeError):
    """An engine does not do what it should; the message is a sentence for visitors."""
