"""The same decision on real models: a draft at the edge, a target in the cloud, a controller in between."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # before grpc is imported, which else writes lines of its own to stderr
