"""The edge as an OpenAI-compatible HTTP server."""
