"""GGUF: one file for llama.cpp."""
