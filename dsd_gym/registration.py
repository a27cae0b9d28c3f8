"""Makes `gymnasium.make("dsd_gym/EdgeCloud-v0")` work after `import dsd_gym`, without importing gymnasium for it.

Since gymnasium 1.0 installed packages are not searched for environments: somebody has to import what registers them.
`gymnasium.make("dsd_gym:dsd_gym/EdgeCloud-v0")` imports dsd_gym by itself.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

ENV_ID = "dsd_gym/EdgeCloud-v0"


def register() -> None:
    """Register the environment; its module, and with it simpy or numba, is loaded by the first `make` of it."""
    import gymnasium

    if ENV_ID not in gymnasium.registry:
        gymnasium.register(
            ENV_ID,
            entry_point="dsd_gym.env:EdgeCloudEnv",
            vector_entry_point="dsd_gym.vector.env:EdgeCloudVectorEnv",
        )


def register_with_gymnasium() -> None:
    """Register now if gymnasium is loaded, else as soon as somebody imports it."""
    if "gymnasium" in sys.modules:
        register()
    elif not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())


class _Watch(importlib.abc.MetaPathFinder):
    """Wait for the import of gymnasium; finds nothing else, and itself nothing."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return gymnasium's own spec, with a loader that registers the environment afterwards."""
        if name != "gymnasium":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Another loader, and a registration after it."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Leave it to the real loader."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Load gymnasium as it would have been, then register."""
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        register()
