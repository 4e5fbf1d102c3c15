"""The networks: autoencoders, text encoder, duration predictor and the audio-video transformer."""
