"""Who is let in and who is not: TLS, mutual TLS, tokens and roles, on real ports with real clients."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pcmedge
import pytest
from certificates import Authority
from hypothesis import given
from hypothesis import strategies as st
from pcmedge._contract import device_pb2, inference_pb2
from pcmedge.device._calls import Call
from pcmedge.device._grpc import GrpcTransport, make_stub
from pcmedge.device._grpc_common import Security
from pcmedge.errors import (
    AccessError,
    CertificateError,
    Error,
    FileMissingError,
    InputValueError,
    InsecureAddressError,
    NotFoundError,
    PermissionDeniedError,
    StoreUnwritableError,
    UnauthenticatedError,
    UnavailableError,
)
from pcmedge.protocol.address import parse_address
from pcmedge.protocol.permissions import ROLES
from pcmedge.protocol.roles import Role
from pcmedge.protocol.services import METHODS, Method
from pcmedge.protocol.tokens import find_entry, new_token, read_token, read_tokens, revoke_token
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.service import upload
from pcmedge_emulator.service.server import Server, serve
from pcmedge_emulator.service.tls import ServerTls
from service_devices import device_by
from service_models import classifier, pictures


@pytest.fixture(scope="module")
def chip() -> Iterator[Chip]:
    with Chip() as made:
        made.program(classifier())
        yield made


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


# ------------------------------------------------------------------------------------------------------------------ TLS


def test_a_device_with_a_trusted_certificate_answers(chip: Chip, authority: Authority) -> None:
    pair = authority.issue("device")
    with serve(chip, tls=ServerTls(cert_file=pair.certificate, key_file=pair.key)) as server:
        assert re.fullmatch(r"grpcs://127\.0\.0\.1:\d+", server.address)
        with pcmedge.connect(server.address, ca_file=authority.certificate) as device:
            assert device.infer(pictures(2)).shape == (2, 4)


@pytest.mark.parametrize("expired", [True, False])
def test_a_certificate_that_is_expired_or_of_an_unknown_authority_is_refused(
    chip: Chip, authority: Authority, stranger: Authority, expired: bool
) -> None:
    pair = authority.issue("old", expired=True) if expired else stranger.issue("other")
    with serve(chip, tls=ServerTls(cert_file=pair.certificate, key_file=pair.key)) as server:
        with pytest.raises(CertificateError, match="expired" if expired else "of no authority") as caught:
            pcmedge.connect(server.address, ca_file=authority.certificate)
        assert (caught.value.status, caught.value.reason) == ("UNAVAILABLE", "CERTIFICATE_REFUSED")


def test_a_certificate_for_another_name_is_refused(chip: Chip, authority: Authority) -> None:
    pair = authority.issue("device")
    with serve(chip, tls=ServerTls(cert_file=pair.certificate, key_file=pair.key)) as server:
        with pytest.raises(CertificateError, match="another name"):
            pcmedge.connect(server.address, ca_file=authority.certificate, server_name="pcm-7.example")
        with pcmedge.connect(server.address, ca_file=authority.certificate, server_name="localhost") as device:
            assert device.identity().serial == "emulator-0"


def test_mutual_tls_wants_a_client_certificate_of_its_authority(
    chip: Chip, authority: Authority, stranger: Authority
) -> None:
    pair, ours = authority.issue("device"), authority.issue("client")
    tls = ServerTls(cert_file=pair.certificate, key_file=pair.key, client_ca_file=authority.certificate)
    with serve(chip, tls=tls) as server:
        trust: dict[str, Any] = {"ca_file": authority.certificate}
        with pcmedge.connect(server.address, cert_file=ours.certificate, key_file=ours.key, **trust) as device:
            assert device.infer(pictures(1)).shape == (1, 4)
        with pytest.raises(UnavailableError, match="may want a client certificate"):
            pcmedge.connect(server.address, **trust)
        for wrong in (stranger.issue("intruder"), authority.issue("former", expired=True)):
            with pytest.raises(UnavailableError, match="client certificate"):
                pcmedge.connect(server.address, cert_file=wrong.certificate, key_file=wrong.key, **trust)


def test_plain_and_encrypted_do_not_meet(chip: Chip, authority: Authority) -> None:
    pair = authority.issue("device")
    tls = ServerTls(cert_file=pair.certificate, key_file=pair.key)
    with serve(chip, tls=tls) as server, pytest.raises(UnavailableError, match="grpcs://"):
        pcmedge.connect(server.address.replace("grpcs", "grpc"))
    with serve(chip) as server, pytest.raises(CertificateError, match="does not speak TLS"):
        pcmedge.connect(server.address.replace("grpc", "grpcs"), ca_file=authority.certificate)


def test_a_renewed_certificate_is_used_without_a_restart(chip: Chip, authority: Authority, tmp_path: Path) -> None:
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"

    def install(name: str, *, expired: bool = False) -> None:
        pair = authority.issue(name, expired=expired)
        pair.key.rename(key_file)
        pair.certificate.rename(cert_file)

    install("first", expired=True)
    with serve(chip, tls=ServerTls(cert_file=cert_file, key_file=key_file)) as server:
        with pytest.raises(CertificateError, match="expired"):
            pcmedge.connect(server.address, ca_file=authority.certificate)
        install("second")
        with pcmedge.connect(server.address, ca_file=authority.certificate) as device:
            assert device.identity().serial == "emulator-0"
        cert_file.write_text("half written")
        with pcmedge.connect(server.address, ca_file=authority.certificate) as device:
            assert device.identity().serial == "emulator-0"


def test_files_that_make_no_tls_are_refused_at_the_start(
    chip: Chip, authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    pair, other = authority.issue("device"), stranger.issue("device")
    with pytest.raises(InputValueError, match="KEY_VALUES_MISMATCH"):
        serve(chip, tls=ServerTls(cert_file=pair.certificate, key_file=other.key))
    with pytest.raises(FileMissingError, match=r"none\.pem"):
        serve(chip, tls=ServerTls(cert_file=tmp_path / "none.pem", key_file=pair.key))
    with pytest.raises(InputValueError, match="no certificates"):
        serve(chip, tls=ServerTls(cert_file=pair.certificate, key_file=pair.key, client_ca_file=pair.key))
    pair.key.chmod(0o644)
    with pytest.raises(InputValueError, match="mode 644"):
        serve(chip, tls=ServerTls(cert_file=pair.certificate, key_file=pair.key))


def test_a_missing_certificate_file_of_the_client_is_named() -> None:
    with pytest.raises(FileMissingError, match=r"nowhere\.pem"):
        pcmedge.connect("grpcs://127.0.0.1:1", ca_file="nowhere.pem")


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("grpc://127.0.0.1:1", {"ca_file": "ca.pem"}, "grpcs"),
        ("grpc://192.0.2.1:1", {"token": "secret"}, "readable"),
        ("grpcs://127.0.0.1:1", {"cert_file": "a.pem"}, "belong together"),
    ],
)
def test_security_options_that_do_not_fit(url: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputValueError, match=message):
        pcmedge.connect(url, **options)


# ------------------------------------------------------------------------------------------------------------ addresses


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "pcm.example:0"])
def test_an_address_others_reach_is_refused_without_tls(chip: Chip, listen: str) -> None:
    with pytest.raises(InsecureAddressError, match="--insecure") as caught:
        serve(chip, listen)
    assert caught.value.reason == "INSECURE_ADDRESS"


def test_an_address_others_reach_is_served_when_that_is_said(chip: Chip, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING, "pcmedge_emulator.service"),
        serve(chip, "0.0.0.0:0", insecure=True) as server,
        pcmedge.connect(server.address.replace("0.0.0.0", "127.0.0.1")) as device,
    ):
        assert device.identity().serial == "emulator-0"
    assert "no TLS" in caplog.text
    assert "answers everybody" in caplog.text


def test_an_address_and_a_certificate_go_together(chip: Chip, authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("device")
    with pytest.raises(InputValueError, match="--tls-cert"):
        serve(chip, "grpcs://127.0.0.1:0")
    with pytest.raises(InputValueError, match="unix socket"):
        serve(chip, f"unix://{tmp_path}/pcm.sock", tls=ServerTls(cert_file=pair.certificate, key_file=pair.key))


# ----------------------------------------------------------------------------------------------------- tokens and roles


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Role to token; under "file" the token file."""
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    made = {role.value: new_token(file, role, f"a-{role}") for role in Role}
    return {"file": str(file), **made}


@pytest.fixture(scope="module")
def guarded(chip: Chip, tokens: dict[str, str]) -> Iterator[Server]:
    with serve(chip, lab=True, tokens=tokens["file"]) as server:
        yield server


def attempt(server: Server, method: Method, token: str | None) -> Error | None:
    """What an empty call is answered with."""
    transport = GrpcTransport(parse_address(server.address), security=Security(token=token))
    request: Any = iter([method.request()]) if method.client_streaming else method.request()
    call = Call(method=method, request=request, timeout_s=20.0)
    try:
        if method.server_streaming:
            next(transport.stream(call), None)
        else:
            transport.unary(call)
    except Error as error:
        return error
    finally:
        transport.close()
    return None


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_no_call_is_answered_without_a_known_token(guarded: Server, method: Method) -> None:
    for token in (None, "pcm_unknown"):
        error = attempt(guarded, method, token)
        assert type(error) is UnauthenticatedError
        assert (error.status, error.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
        assert error.metadata["call"] == method.name


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_role_makes_its_own_calls_and_those_of_lower_roles_only(
    guarded: Server, tokens: dict[str, str], method: Method, role: Role
) -> None:
    error = attempt(guarded, method, tokens[role])
    if list(Role).index(role) >= list(Role).index(ROLES[method.name]):
        assert not isinstance(error, AccessError)
        return
    assert type(error) is PermissionDeniedError
    assert (error.status, error.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
    assert (error.metadata["required"], error.metadata["role"]) == (ROLES[method.name], role)


def test_what_a_role_covers_is_what_the_documentation_says() -> None:
    page = (Path(__file__).parent.parent / "docs" / "device-contract.md").read_text(encoding="utf-8")
    section = page.split("## Roles")[1].split("## ")[0]
    rows = dict(re.findall(r"^\| `(infer|operate|lab)` \| (.+) \|$", section, re.MULTILINE))
    for role in (Role.INFER, Role.OPERATE):
        assert set(re.findall(r"`(\w+)`", rows[role])) == {name for name in ROLES if ROLES[name] is role}
    assert "`LabService`" in rows[Role.LAB]


def test_a_refused_stream_of_requests_is_answered_before_anything_is_sent(guarded: Server) -> None:
    """Who may not upload does not get to hold a place by being slow about it."""

    def silent() -> Iterator[device_pb2.ProgramRequest]:
        yield from ()
        released.wait()

    released = threading.Event()
    with grpc.insecure_channel(guarded.address.removeprefix("grpc://")) as channel:
        replies = make_stub(channel, METHODS["Program"])(silent(), timeout=20)
        with pytest.raises(grpc.RpcError) as caught:
            next(replies)
        released.set()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]


@pytest.mark.parametrize("header", ["pcm_x", "Basic cGNtOnBjbQ==", "Bearer", "Bearer ", "Bearer " + "x" * 4000])
def test_other_authorization_headers_are_no_tokens(guarded: Server, header: str) -> None:
    with grpc.insecure_channel(guarded.address.removeprefix("grpc://")) as channel:
        stub = make_stub(channel, METHODS["ServerLive"])
        with pytest.raises(grpc.RpcError) as caught:
            stub(inference_pb2.ServerLiveRequest(), metadata=[("authorization", header)], timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]


def test_two_authorization_headers_are_refused_though_one_is_right(guarded: Server, tokens: dict[str, str]) -> None:
    with grpc.insecure_channel(guarded.address.removeprefix("grpc://")) as channel:
        stub = make_stub(channel, METHODS["ServerLive"])
        both = [("authorization", f"Bearer {tokens['lab']}"), ("authorization", "Bearer pcm_unknown")]
        with pytest.raises(grpc.RpcError) as caught:
            stub(inference_pb2.ServerLiveRequest(), metadata=both, timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]


def test_health_is_open(guarded: Server) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(guarded.address.removeprefix("grpc://")) as channel:
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_a_token_opens_the_whole_client(guarded: Server, tokens: dict[str, str]) -> None:
    with pcmedge.connect(guarded.address, token=tokens["infer"]) as device:
        assert device.infer(pictures(2)).shape == (2, 4)
        assert next(device.watch_telemetry()).sequence == 1
        with pytest.raises(PermissionDeniedError, match="needs the role 'operate', the token 'a-infer' has 'infer'"):
            device.program(classifier("another"))
        with pytest.raises(PermissionDeniedError):
            device.read_tile(0)
    with pcmedge.connect(guarded.address, token=tokens["operate"]) as device:
        assert device.recalibrate(force=True).committed

    async def ask(token: str | None) -> str:
        async with await pcmedge.connect_async(guarded.address, token=token) as awaiting:
            return (await awaiting.identity()).serial

    assert asyncio.run(ask(tokens["infer"])) == "emulator-0"
    with pytest.raises(UnauthenticatedError):
        asyncio.run(ask(None))


def test_a_token_that_is_made_or_revoked_counts_from_the_next_call_on(chip: Chip, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    first = new_token(file, "infer", "first")
    with serve(chip, tokens=file) as server, pcmedge.connect(server.address, token=first) as device:
        second = new_token(file, "infer", "second")
        with pcmedge.connect(server.address, token=second) as other:
            assert other.identity().serial == "emulator-0"
            revoke_token(file, "second")
            with pytest.raises(UnauthenticatedError):
                other.identity()
        assert device.identity().serial == "emulator-0"
        file.chmod(0o666)
        with pytest.raises(UnauthenticatedError):
            device.identity()
        file.chmod(0o600)
        assert device.identity().serial == "emulator-0"
        file.unlink()
        with pytest.raises(UnauthenticatedError):
            device.identity()


def test_nothing_secret_is_in_the_log_or_in_a_message(
    chip: Chip, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens"
    token, unknown = new_token(file, "infer", "one"), "pcm_" + "z9" * 20
    messages: list[str] = []
    with caplog.at_level(logging.DEBUG), serve(chip, lab=True, tokens=file) as server:
        for method in METHODS.values():
            for secret in (token, unknown):
                messages.append(str(attempt(server, method, secret)))
        file.write_text(f"infer {token} in-the-wrong-column\n")
        messages.append(str(attempt(server, METHODS["GetIdentity"], token)))
        with pytest.raises(InputValueError) as caught:
            read_tokens(file)
        messages.append(f"{caught.value!r} {caught.value.metadata}")
    assert "nobody is let in" in caplog.text
    everything = caplog.text + "\n".join(messages)
    for secret in (token, unknown, hashlib.sha256(token.encode()).hexdigest()):
        assert secret not in everything
        assert secret.removeprefix("pcm_")[:12] not in everything


# ------------------------------------------------------------------------------------------------------ the token file


def test_the_file_holds_hashes_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    token = new_token(file, "operate", "gate-3")
    assert token not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    (entry,) = read_tokens(file)
    assert (entry.role, entry.name, entry.digest) == ("operate", "gate-3", hashlib.sha256(token.encode()).digest())
    assert find_entry((entry,), token) is entry
    assert find_entry((entry,), token + "x") is None
    assert len(token) >= 40


def test_names_are_unique_and_revoking_wants_one_that_is_there(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    new_token(file, "infer", "one")
    before = file.read_text()
    with pytest.raises(InputValueError, match="already"):
        new_token(file, "lab", "one")
    with pytest.raises(InputValueError, match="name"):
        new_token(file, "lab", "two words")
    with pytest.raises(InputValueError, match="infer, operate, lab"):
        new_token(file, "root", "two")
    with pytest.raises(NotFoundError, match="it has one"):
        revoke_token(file, "two")
    assert file.read_text() == before


def test_a_named_pipe_in_the_files_place_holds_nobody_up(chip: Chip, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    token = new_token(file, "infer", "one")
    with serve(chip, tokens=file) as server, pcmedge.connect(server.address, token=token, timeout_s=10) as device:
        assert device.identity().serial == "emulator-0"
        file.unlink()
        os.mkfifo(file, 0o600)
        with pytest.raises(UnauthenticatedError):
            device.identity()
        with pytest.raises(InputValueError, match="no regular file"):
            new_token(file, "infer", "two")


@pytest.mark.parametrize("mode", [0o666, 0o644, 0o620, 0o602])
def test_a_file_that_others_reach_is_refused(chip: Chip, tmp_path: Path, mode: int) -> None:
    file = tmp_path / "tokens"
    new_token(file, "infer", "one")
    file.chmod(mode)
    with pytest.raises(InputValueError, match="chmod 600"):
        serve(chip, tokens=file)
    file.chmod(0o640)
    assert len(read_tokens(file)) == 1


@given(st.text(max_size=120).filter(lambda text: text.strip() and not text.strip().startswith("#")))
def test_a_line_that_is_no_entry_is_refused_by_its_number_and_not_quoted(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokens"
        file.touch(mode=0o600)
        line = re.sub(r"\s", "_", text) + "-no-entry"
        file.write_bytes(b"# comment\n\n" + line.encode("utf-8", "replace") + b"\n")
        with pytest.raises(InputValueError, match="line 3") as caught:
            read_tokens(file)
        assert line not in caught.value.message


def test_an_empty_file_would_lock_everybody_out_and_is_refused(chip: Chip, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.touch(mode=0o600)
    with pytest.raises(InputValueError, match="nobody could call"):
        serve(chip, tokens=file)


def test_a_clients_token_file_holds_one_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("pcm_abc\n")
    assert read_token(file) == "pcm_abc"
    for content in ("", "\n", "two words\n", "pcm_a\npcm_b\n", "ü"):
        file.write_text(content, encoding="utf-8")
        with pytest.raises((InputValueError, FileMissingError)) as caught:
            read_token(file)
        assert not content.strip() or content.strip() not in str(caught.value)


# ------------------------------------------------------------------------------------------ images that wait in a file


def test_a_large_image_waits_in_a_file_that_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with device_by("grpc") as device:
        monkeypatch.setattr(upload, "_IN_MEMORY_BYTES", 0)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        device.program(classifier())
        assert list(tmp_path.glob("*.pcmi")) == []
        assert device.manifest().model.name == "small"
        assert device.infer(pictures(1)).shape == (1, 4)


def test_no_room_for_a_large_image_is_a_store_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with device_by("grpc") as device:
        monkeypatch.setattr(upload, "_IN_MEMORY_BYTES", 0)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
        with pytest.raises(StoreUnwritableError, match="TMPDIR"):
            device.program(classifier())
