"""Which acceptance process holds where drafts of many kinds meet targets of many kinds."""

from __future__ import annotations

from dsd_gym.acceptance import AcceptanceProcess
from dsd_gym.reference import acceptance_profile
from dsd_gym.scenario import Acceptance, Scenario
from dsd_gym.scenario.mix import acceptance_of


class AcceptanceTable:
    """The acceptance process of each edge class, target class and request class, made when it is first asked for.

    A request's luck is its own: the same draws decide, whatever target it goes to.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._made: dict[Acceptance, AcceptanceProcess] = {}
        self._found: dict[tuple[int, int, int], AcceptanceProcess] = {}

    def process(self, edge_class: int, tier: int, request_class: int) -> AcceptanceProcess:
        """Return the process by the numbers of the three classes."""
        key = edge_class, tier, request_class
        if key not in self._found:
            spec = acceptance_of(self._scenario, *key)
            if spec not in self._made:
                self._made[spec] = acceptance_profile(spec)
            self._found[key] = self._made[spec]
        return self._found[key]
