"""Models: their layers and blocks, and the encoders and language models that are loaded from folders."""
