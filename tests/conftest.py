"""Settings for all tests."""

from hypothesis import settings

settings.register_profile("gate", deadline=None, derandomize=True)  # a busy machine is no failure; a red gate repeats
settings.load_profile("gate")
