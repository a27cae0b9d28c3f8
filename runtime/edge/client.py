"""A target at the other end of a network: `messages.Target` over gRPC.

    target = RemoteTarget("target.example:8500", fingerprint(tokenizer), tls_ca=Path("ca.pem"), token="...")
    stream = await target.open(opening)
    first = await stream.receive()
    await target.close()

One connection carries all requests. When it fails, its streams are `Disconnected` and the next call makes a new one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc

from runtime.address import host_and_port
from runtime.edge.channel import Identity, failure_of
from runtime.edge.stream import RemoteStream
from runtime.messages import Description, Disconnected, Opening
from runtime.wire import dsd_pb2 as wire
from runtime.wire.convert import description_from_wire, opening_to_wire
from runtime.wire.dsd_pb2_grpc import TargetStub

SLOWEST_MBPS = 0.1
"""Uplink for which a long prompt is given the time that it takes, beyond that of connecting."""


class RemoteTarget:
    """A target server. `tokenizer` is the fingerprint of the draft's, which must be the target's as well."""

    def __init__(
        self,
        address: str,
        tokenizer: str,
        *,
        tls_ca: Path | None = None,
        tls_certificate: Path | None = None,
        tls_key: Path | None = None,
        token: str | None = None,
        insecure: bool = False,
        connect_timeout_s: float = 5.0,
        silence_timeout_s: float = 10.0,
    ) -> None:
        host_and_port(address)  # gRPC would take half of anything for an address, and look for it in vain
        self._address, self._tokenizer = address, tokenizer
        self._identity = Identity(tls_ca, tls_certificate, tls_key, token, insecure)
        self._connect_timeout_s, self._silence_timeout_s = connect_timeout_s, silence_timeout_s
        self._channel: grpc.aio.Channel | None = None

    async def describe(self) -> Description:
        """Return what the target says of itself."""
        channel = self._connected()
        call = TargetStub(channel).Describe(  # type: ignore[no-untyped-call]
            wire.DescribeRequest(), metadata=self._identity.metadata, timeout=self._connect_timeout_s
        )
        try:
            return description_from_wire(await call)
        except grpc.aio.AioRpcError:
            failure = await failure_of(call)
            if isinstance(failure, Disconnected):
                self._forget(channel)
            raise failure from None

    async def open(self, opening: Opening) -> RemoteStream:
        """Begin a request; returns when the target has accepted it, before its first token."""
        channel = self._connected()
        call = TargetStub(channel).Generate(metadata=self._identity.metadata)  # type: ignore[no-untyped-call]
        stream = RemoteStream(call, self._silence_timeout_s, lambda: self._forget(channel))
        message = opening_to_wire(opening, self._tokenizer)
        timeout_s = self._connect_timeout_s + message.ByteSize() / (SLOWEST_MBPS * 1e6 / 8)
        try:
            async with asyncio.timeout(timeout_s):
                await stream.begin(message)
        except TimeoutError:
            self._forget(channel)
            await stream.close()
            raise Disconnected(f"{self._address}: no answer within {timeout_s:.1f} s") from None
        except BaseException:
            await stream.close()
            raise
        return stream

    async def close(self) -> None:
        """End the connection and all its streams."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close(None)

    def _connected(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = self._identity.connect(self._address)
        return self._channel

    def _forget(self, channel: grpc.aio.Channel) -> None:
        """Connect anew with the next call. A channel closes when the last stream that refers to it is gone."""
        if self._channel is channel:
            self._channel = None
