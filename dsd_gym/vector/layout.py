"""What the twin knows of its deployments: one record for each of them, its machines, requests, messages and events.

Every array has a row for each deployment. Rows are as long as the largest deployment needs; what is unused is never
touched.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsd_gym.observation import Report

NONE = -1
"""No request, no message."""

ARRIVAL, PROMPT, ANSWERED, MESSAGE, GUESSED, DECODE, STOP, PASS_START, PASS_END, END = range(10)
"""Kinds of events: what happens to the request, message or target that the event names. Those up to MESSAGE may begin
or end a request or a round."""

TRAVELLING, FIRST_TOKEN, GUESSING, ASKING, AWAY, CHUNK, RETURNING = range(7)
"""Stages of a request: what it waits for. FIRST_TOKEN, AWAY (a verdict), CHUNK and RETURNING read the inbox."""

UNBORN, LIVE, FINISHED, REJECTED = range(4)

WAITING, PREFILLING, WINDOWS, DECODING, RIDING = range(5)
QUEUES = 5
"""The queues of a target: requests before and in their prefill, windows and decoding streams, and windows in a pass."""

_REPORT = " ".join(Report._fields)
_LINE = 64
"""Bytes of a line of the cache."""


def _record(rest: dict[str, str] | None = None, line: int = 1, **fields: str) -> np.dtype[np.void]:
    """Return a record: type to names, separated by spaces, those of `rest` last; it fills lines of so many bytes."""
    parts = [*fields.items(), *(rest or {}).items()]
    kinds = {name: getattr(np, kind) for kind, names in parts for name in names.split()}
    dense: Any = np.dtype(list(kinds.items()), align=True)
    return np.dtype(
        {
            "names": list(kinds),
            "formats": list(kinds.values()),
            "offsets": [dense.fields[name][1] for name in kinds],
            "itemsize": -(-dense.itemsize // line) * line,
        },
        align=True,
    )


STATE = _record(
    float64="now_ms waited_ms taken_ms counted_ms header_bytes draft_token_bytes committed_token_bytes",
    int64="order chunk_tokens",
    int32="""events hole first_flight last_flight woken asking stopped live free_message free_messages targets
    first_stream max_window""",
    rest={
        "float64": "horizon_ms warm_up_ms think_ms reference_ms prompt_token_bytes",
        "int64": "arrived arrival_limit",
        "uint64": "seed",
        "int32": "sources arrivals users",
    },
    line=_LINE,
)
"""A deployment. `asking` is the request that waits for an answer, `woken` the target that is to begin; `arrivals` are
those drawn so far."""

REQUEST = _record(
    float64=f"""queued_ms round_start_ms team_start_ms decided_ms draft_ready_ms up_ms up_bytes passed_tests tests
    heard_ms last_mean_confidence mean_confidence decoded_externality_ms decoded_bytes threshold guess_confidence
    {_REPORT}""",
    int32="""prompt_tokens output_tokens device target tape committed verified decoded drafted agreed window last_window
    last_accepted next previous first_message last_message""",
    int8="""status stage cloud_mode stopping guessed all_accepted has_last_round has_last_confidence""",
    rest={
        "float64": "arrival_ms externality_ms first_token_ms finish_ms",
        "int32": "prefilled chunk decoded_in_chunk unread",
    },
    line=_LINE,
)
"""A request, with the last report that its edge has heard; last stands what a round at the edge does not ask for.

The target agrees with `agreed` of its drafts; `guess_confidence` is that of its next first guess.
"""
DEVICE = _record(
    float64="busy_until_ms last_rtt_ms smoothed_ms deviation_ms slot_jitter_ms",
    int64="slot",
    uint64="jitter_stem",
    int32="device_class",
    rest={"float64": "regime_begins_ms regime_ends_ms", "int32": "regime_index regime"},
    line=_LINE,
)
"""A device; last stands what only a link with regimes asks for."""
DEVICE_CLASS = _record(
    float64="""draft_ms prefill_ms uplink_ms_per_token rtt_ms mean_jitter_ms slot_ms up_mbps down_mbps up_share""",
    int32="first_regime regimes",
)
"""What the devices of a class and their links have in common."""
REGIME = _record(float64="dwell_ms rtt_factor bandwidth_factor", int8="outage")
TARGET = _record(
    float64="""fixed_ms token_ms weights_ms compute_ms attention_fixed_ms attention_sequence_ms attention_context_ms
    prefill_fixed_ms prefill_token_ms prefill_pair_ms host_ms one_token_ms start_ms total_ms busy_ms wakes_ms""",
    int64="max_sequences max_batch_tokens chunk_limit max_queue capacity free iterations pass_tokens",
    int32="live tokens prefills decoding first_decoding",
    int8="idle",
    line=_LINE,
)
QUEUE = _record(int32="first last count")
MESSAGE_RECORD = _record(
    float64=f"{_REPORT} externality_ms propagation_ms message_bytes",
    int64="request",
    int32="next tokens accepted",
    int8="final arrived",
)
EVENT = _record(float64="at_ms", int64="tag")
"""`tag` orders events of one ms, and says what happens to whom (`dsd_gym.vector.events`); that of a window on its way
(`dsd_gym.vector.flights`) is its request."""
ROUND = _record(
    int64="deployment stream window drafted accepted cloud_tokens committed batch_size",
    float64="""start_ms decided_ms end_ms rtt_ms queue_wait_ms iteration_ms externality_ms uplink_bytes
    downlink_bytes team_ms""",
)
"""`dsd_gym.records.Round`, and the ms of all live requests together that passed during it."""
STREAM = _record(int64="deployment stream device target")
"""A request that has begun, or ended."""

Records = NDArray[np.void]
FloatArray = NDArray[np.float64]


class World(NamedTuple):
    """All deployments: arrays of shape (deployments, capacity)."""

    state: Records
    requests: Records
    devices: Records
    classes: Records
    regimes: Records
    targets: Records
    queues: Records
    messages: Records
    events: Records
    flights: Records
    accepted: NDArray[np.bool_]
    confidence: NDArray[np.float64]


class Cell(NamedTuple):
    """One deployment: a row of each array of `World`."""

    state: Any
    requests: Records
    devices: Records
    classes: Records
    regimes: Records
    targets: Records
    queues: Records
    messages: Records
    events: Records
    flights: Records
    accepted: NDArray[np.bool_]
    confidence: NDArray[np.float64]


class Log(NamedTuple):
    """What has happened since it was last read: rounds that ended, requests that began and ended, and how many."""

    rounds: Records
    begun: Records
    ended: Records
    counts: NDArray[np.int64]


class Told(NamedTuple):
    """What is asked and answered: a row for each deployment.

    Given are `windows` and `thresholds` (negative: none). Told are `seen`, features in their own units; what lies
    `ahead`, if it has columns; `waited_ms` up to the question, summed over live requests; the `stream` that asks;
    `now_ms`; requests that are `live`; and how the deployment is `standing` (`dsd_gym.vector.engine`).
    """

    windows: NDArray[np.int64]
    thresholds: FloatArray
    seen: FloatArray
    ahead: NDArray[np.float32]
    waited_ms: FloatArray
    stream: NDArray[np.int64]
    now_ms: FloatArray
    live: NDArray[np.int64]
    standing: NDArray[np.int64]
