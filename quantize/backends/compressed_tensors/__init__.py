"""compressed-tensors: packed checkpoints."""
