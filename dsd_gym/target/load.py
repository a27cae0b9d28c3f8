"""How busy a target is: what it tells a router."""

from __future__ import annotations

from typing import NamedTuple


class TargetLoad(NamedTuple):
    """A target's state at one moment. Reading it is free and exact; whoever models a report adds its age."""

    waiting_requests: int
    """Requests that wait for KV memory; it is given between passes."""
    waiting_prompt_tokens: int
    """Prompt tokens still to be prefilled: of waiting requests, and of those whose prefill is under way."""
    waiting_windows: int
    """Windows that ride in no pass yet."""
    live_requests: int
    """Requests routed here that have neither finished nor been rejected, those still on their way included."""
    kv_share: float
    """Share of the KV memory that is taken, 0 to 1."""
    iteration_ms: float
    """Ms of the last pass that ended; that of one token before the first."""
    batch_size: int
    """Requests in that pass; 0 before the first."""
    ended_ms: float
    """When it ended; 0 before the first."""
