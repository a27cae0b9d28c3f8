"""The edge's end: the draft model, the controller, and whoever asked for text."""
