"""Codecs: from pictures and sound to latents and back, each behind one of the protocols of protocol.py."""
