"""A tiny pair of models that the project makes itself: `python -m runtime.tiny_pair --out DIR`."""
