"""Gradients and curvature of the calibration loss."""
