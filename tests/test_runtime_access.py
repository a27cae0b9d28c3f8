"""Who may use a target: listen addresses, TLS from one side and both, and bearer tokens."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dsd_gym.config import ConfigError
from runtime.address import is_loopback
from runtime.edge.channel import Identity
from runtime.messages import Busy, Disconnected, Refused
from runtime.target.access import Tokens, credentials, host_of
from runtime.target.options import ServerOptions
from tests.target_serving import PROMPT, greedy, remote, request, serving, speculate

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


def openssl(folder: Path, name: str, *arguments: str) -> tuple[Path, Path]:
    """Make a key and a certificate, and return the files."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    files = ("-out", str(certificate), "-keyout", str(key))
    subprocess.run(
        ["openssl", "req", "-x509", *KEY, "-subj", f"/CN={name}", *files, *arguments], check=True, capture_output=True
    )
    return certificate, key


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Make an authority, a server and a client that it has signed, and a stranger."""
    folder = tmp_path_factory.mktemp("pki")
    ca, ca_key = openssl(folder, "ca")
    signed = ("-CA", str(ca), "-CAkey", str(ca_key), "-addext", "basicConstraints=critical,CA:FALSE")
    files = {"ca": ca}
    files["server"], files["server_key"] = openssl(
        folder, "server", *signed, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"
    )
    files["client"], files["client_key"] = openssl(folder, "client", *signed)
    files["stranger"], files["stranger_key"] = openssl(folder, "stranger")
    return files


def run_session(serves: dict[str, Any], connects: dict[str, Any]) -> None:
    """Serve, and run a session to its end."""

    async def run() -> None:
        async with serving(**serves) as (_, server), remote(server.port, connect_timeout_s=3.0, **connects) as target:
            stream = await target.open(request(12))
            assert tuple(await speculate(stream, greedy(PROMPT, 12))) == greedy(PROMPT, 12)

    asyncio.run(run())


# --- TLS --------------------------------------------------------------------------------------------------------------


def test_tls_serves_who_trusts_its_authority_alone(pki: dict[str, Path]) -> None:
    serves = {"tls_certificate": pki["server"], "tls_key": pki["server_key"]}
    run_session(serves, {"tls_ca": pki["ca"]})
    with pytest.raises(Refused, match="certificate"):
        run_session(serves, {"tls_ca": pki["stranger"]})
    with pytest.raises(Disconnected):
        run_session(serves, {})


def test_mutual_tls_refuses_a_client_without_its_certificate(pki: dict[str, Path]) -> None:
    serves = {"tls_certificate": pki["server"], "tls_key": pki["server_key"], "tls_client_ca": pki["ca"]}
    run_session(serves, {"tls_ca": pki["ca"], "tls_certificate": pki["client"], "tls_key": pki["client_key"]})
    with pytest.raises(Disconnected):
        run_session(serves, {"tls_ca": pki["ca"]})
    with pytest.raises(Disconnected):
        run_session(serves, {"tls_ca": pki["ca"], "tls_certificate": pki["stranger"], "tls_key": pki["stranger_key"]})


def test_wrong_tls_files_are_one_line_that_names_them(pki: dict[str, Path], tmp_path: Path) -> None:
    nowhere, text = tmp_path / "nowhere.pem", tmp_path / "text.pem"
    text.write_text("not a certificate")
    server = {"tls_certificate": pki["server"], "tls_key": pki["server_key"]}
    for wrong, named in (
        ({"tls_certificate": nowhere}, nowhere),
        ({"tls_key": nowhere}, nowhere),
        ({"tls_certificate": text}, text),
        ({"tls_key": pki["client_key"]}, pki["client_key"]),
        ({"tls_client_ca": nowhere}, nowhere),
        ({"tls_client_ca": text}, text),
    ):
        with pytest.raises(ConfigError) as error:
            credentials(ServerOptions(**{**server, **wrong}))
        assert str(named) in str(error.value) and "\n" not in str(error.value)
    for half in ({"tls_certificate": pki["server"]}, {"tls_key": pki["server_key"]}, {"tls_client_ca": pki["ca"]}):
        with pytest.raises(ConfigError):
            credentials(ServerOptions(**half))
    with pytest.raises(ConfigError, match="nowhere"):
        run_session(server, {"tls_ca": nowhere})


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_only_a_known_token_is_served(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("# edges\nphone:first-secret\n\nsecond-secret\n")
    serves = {"tokens": tokens}
    run_session(serves, {"token": "first-secret"})
    run_session(serves, {"token": "second-secret"})
    for wrong in ("", "first-secre", "first-secrets", "phone:first-secret", "phone", "line 4"):
        with pytest.raises(Refused, match="a bearer token"):
            run_session(serves, {"token": wrong} if wrong else {})
    with pytest.raises(ConfigError, match="cannot be sent"):
        run_session(serves, {"token": "first-secret\n"})


def test_health_needs_no_token_and_the_description_does(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("secret")

    async def run() -> None:
        async with serving(tokens=tokens) as (_, server), remote(server.port) as target:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(Refused):
                await target.describe()

    asyncio.run(run())


def test_sessions_are_counted_by_token_holder(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("phone:one\nlaptop:two")

    async def run() -> None:
        async with (
            serving(tokens=tokens, max_sessions_per_client=1) as (_, server),
            remote(server.port, token="one") as phone,
            remote(server.port, token="two") as laptop,
        ):
            await phone.open(request(12))
            with pytest.raises(Busy, match="phone has 1 sessions"):
                await phone.open(request(12))
            await laptop.open(request(12))

    asyncio.run(run())


@pytest.mark.parametrize("text", ["", "# none\n", "a:\n", ":b\n", "a:x\na:y\n", "a:x\nb:x\n", "a:\u00fc\n"])
def test_wrong_token_file_is_one_line_that_names_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=str(path)):
        Tokens.read(path)
    with pytest.raises(ConfigError, match="nowhere"):
        Tokens.read(tmp_path / "nowhere")


# --- where to listen --------------------------------------------------------------------------------------------------


def test_listening_beyond_this_machine_needs_encryption_and_names(pki: dict[str, Path], tmp_path: Path) -> None:
    tls = {"tls_certificate": pki["server"], "tls_key": pki["server_key"]}
    tokens = {"tokens": tmp_path / "tokens"}
    for listen in ("0.0.0.0:8500", "[::]:8500", "192.0.2.1:8500", "target.example:8500", "*:8500"):
        for not_enough in ({}, tls, tokens):
            with pytest.raises(ConfigError, match="beyond this machine"):
                credentials(ServerOptions(listen=listen, **not_enough))
        assert credentials(ServerOptions(listen=listen, insecure=True)) is None
        assert credentials(ServerOptions(listen=listen, **tls, **tokens)) is not None
        assert credentials(ServerOptions(listen=listen, **tls, tls_client_ca=pki["ca"])) is not None
    for listen in ("127.0.0.1:0", "127.9.9.9:1", "[::1]:8500", "localhost:8500"):
        assert is_loopback(listen) and credentials(ServerOptions(listen=listen)) is None
    for listen in ("8500", "127.0.0.1", ":8500", "127.0.0.1:http", "127.0.0.1:65536", ""):
        with pytest.raises(ConfigError, match="expected HOST:PORT"):
            credentials(ServerOptions(listen=listen))


def test_peer_is_known_by_its_address_without_the_port() -> None:
    assert host_of("ipv4:192.0.2.7:51234") == "192.0.2.7"
    assert host_of("ipv6:%5B2001:db8::7%5D:51234") == "[2001:db8::7]"
    assert host_of("unix:") == "unix:"


# --- the edge's side --------------------------------------------------------------------------------------------------


def test_a_token_crosses_no_network_in_clear() -> None:
    for address in ("target.example:50051", "192.0.2.1:50051"):
        with pytest.raises(ConfigError, match=rf"{address}: the token would cross the network in clear"):
            Identity(token="secret").connect(address)

    async def run() -> None:
        for identity in (Identity(token="secret", insecure=True), Identity()):
            await identity.connect("target.example:50051").close()
        await Identity(token="secret").connect("127.0.0.1:50051").close()

    asyncio.run(run())


@pytest.mark.parametrize("given", [{"certificate": Path("c.pem")}, {"key": Path("k.pem")}])
def test_a_client_certificate_without_tls_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a client certificate needs TLS"):
        Identity(**given)
