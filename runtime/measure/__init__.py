"""What the runtime achieves on this machine: `python benchmark.py runtime` and `python benchmark.py links`."""
