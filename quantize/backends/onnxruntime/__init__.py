"""ONNX Runtime: packed weights in one file."""
