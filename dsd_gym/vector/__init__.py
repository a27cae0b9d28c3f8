"""The compiled twin of the simulator: many deployments at once, equal to it to the bit."""
