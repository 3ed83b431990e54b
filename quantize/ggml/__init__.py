"""The block types of ggml, llama.cpp's library: their sizes, and their codes as ggml itself chooses them."""
