"""Encoders and language models of transformers, loaded from folders, with the text that they are measured on."""
