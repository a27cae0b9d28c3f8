"""From the runtime's messages to protocol buffers and back."""

from __future__ import annotations

from dsd_gym.observation import Report
from runtime.messages import PROTOCOL_VERSION, Description, Finish, Opening, Sampling, Verdict
from runtime.wire import dsd_pb2 as wire

_FINISHES: tuple[Finish, ...] = ("", "stop", "length")
_TO_WIRE: dict[Finish, wire.Finish.ValueType] = {"": wire.MORE, "stop": wire.STOP, "length": wire.LENGTH}


def opening_to_wire(opening: Opening, tokenizer: str) -> wire.EdgeMessage:
    """Return the first message of a stream."""
    sampling = opening.sampling
    return wire.EdgeMessage(
        open=wire.Open(
            protocol_version=PROTOCOL_VERSION,
            tokenizer=tokenizer,
            prompt=opening.prompt,
            committed=opening.committed,
            max_new_tokens=opening.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=sampling.seed,
            ignore_eos=opening.ignore_eos,
        )
    )


def opening_from_wire(message: wire.Open) -> Opening:
    """Return what a stream asks for; nothing is checked here."""
    sampling = Sampling(message.temperature, message.top_p, message.top_k, message.seed)
    return Opening(
        tuple(message.prompt), tuple(message.committed), message.max_new_tokens, sampling, message.ignore_eos
    )


def verdict_to_wire(verdict: Verdict) -> wire.TargetMessage:
    """Return a verdict as it is sent."""
    return wire.TargetMessage(
        verdict=wire.Verdict(
            position=verdict.position,
            accepted=verdict.accepted,
            tokens=verdict.tokens,
            final=verdict.final,
            finish=_TO_WIRE[verdict.finish],
            report=wire.Report(**verdict.report._asdict()),
            target_ms=verdict.target_ms,
            externality_ms=verdict.externality_ms,
        )
    )


def verdict_from_wire(message: wire.Verdict) -> Verdict:
    """Return a verdict as it was received."""
    report = message.report
    return Verdict(
        message.position,
        message.accepted,
        tuple(message.tokens),
        message.final,
        _FINISHES[message.finish],
        Report(
            report.queue_wait_ms,
            report.iteration_ms,
            report.batch_size,
            report.iteration_tokens,
            report.marginal_ms_per_token,
            report.one_token_iteration_ms,
        ),
        message.target_ms,
        message.externality_ms,
    )


def description_to_wire(description: Description) -> wire.Description:
    """Return what a target says of itself, as it is sent."""
    return wire.Description(protocol_version=PROTOCOL_VERSION, **description._asdict())


def description_from_wire(message: wire.Description) -> Description:
    """Return what a target says of itself."""
    return Description(
        message.model, message.tokenizer, message.parameters, message.max_window, message.max_context_tokens
    )
