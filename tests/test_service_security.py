"""grpcs:// against a server with TLS, and images that arrive through a file."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pcmedge
import pytest
from pcmedge.errors import FileMissingError, InputValueError, StoreUnwritableError, UnavailableError
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.service import upload
from pcmedge_emulator.service.draining import Drain
from pcmedge_emulator.service.handlers import Handlers
from pcmedge_emulator.service.server import _Calls
from service_devices import device_by
from service_models import classifier, pictures

TLS = Path(__file__).parent / "tls"
"""A self-signed certificate for pcm-test-device and its key, made for these tests and good for nothing else."""
NAME = "pcm-test-device"


@pytest.fixture
def port() -> Iterator[int]:
    """Of a device behind TLS, as a proxy or silicon would offer it; it knows the token of each call."""
    with Chip() as chip, ThreadPoolExecutor(4) as pool:
        chip.program(classifier())
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((_Calls(Handlers(chip), threading.BoundedSemaphore(4), (), Drain()),))
        key, certificate = (TLS / "key.pem").read_bytes(), (TLS / "certificate.pem").read_bytes()
        found = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
        server.start()
        yield found
        server.stop(0).wait()


def test_a_device_with_a_trusted_certificate_answers(port: int) -> None:
    options: dict[str, Any] = {"ca_file": TLS / "certificate.pem", "server_name": NAME, "token": "secret"}
    with pcmedge.connect(f"grpcs://127.0.0.1:{port}", **options) as device:
        assert device.infer(pictures(2)).shape == (2, 4)


def test_a_certificate_nobody_trusts_or_of_another_name_is_refused(port: int) -> None:
    with pytest.raises(UnavailableError):
        pcmedge.connect(f"grpcs://127.0.0.1:{port}", server_name=NAME)
    with pytest.raises(UnavailableError):
        pcmedge.connect(f"grpcs://127.0.0.1:{port}", ca_file=TLS / "certificate.pem")


def test_a_device_with_tls_is_not_reached_without(port: int) -> None:
    with pytest.raises(UnavailableError):
        pcmedge.connect(f"grpc://127.0.0.1:{port}")


def test_a_missing_certificate_file_is_named() -> None:
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
