"""The same decision on real models: a draft at the edge, a target in the cloud, a controller in between."""
