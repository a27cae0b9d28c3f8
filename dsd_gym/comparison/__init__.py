"""Controllers compared on the same luck: cells in, one table with intervals out; plots beside it."""
