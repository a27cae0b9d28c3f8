"""What goes beside the messages of a stream, in gRPC's metadata."""

RETRY_KEY = "grpc-retry-pushback-ms"
"""Trailing: when to come again, from a target that is full. gRPC's own key for it:
https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback"""
ACCEPTED_KEY = "dsd-accepted"
"""Initial, and sent at once: the request is accepted, with windows of up to so many tokens. A refused one has a status
and no initial metadata."""
TOKEN_KEY = "authorization"
"""Of the edge's: `Bearer TOKEN`."""
TOKEN_SCHEME = "Bearer "
