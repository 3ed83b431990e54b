"""torchao: weights with real codes, run by PyTorch."""
