"""Devices in a pickle: opened again by their address where they are unpickled, or a typed error, and never a secret."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import pickle
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pcmedge
import pytest
from certificates import Authority
from pcmedge.errors import DeviceStateError, FileMissingError, InputValueError, UnavailableError
from pcmedge.protocol.tokens import new_token
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.service.server import Server, serve
from pcmedge_emulator.service.tls import ServerTls
from service_devices import served
from service_models import classifier, pictures


@pytest.fixture
def server() -> Iterator[Server]:
    with served(classifier(), read_noise="off") as running:
        yield running


def asked(device: pcmedge.Device) -> Any:
    """In the worker, which opened the device by unpickling it."""
    with device:
        return device.infer(pictures(2))


def test_a_process_started_with_spawn_asks_the_device_it_was_given(server: Server) -> None:
    spawn = multiprocessing.get_context("spawn")
    with pcmedge.connect(server.address) as device, ProcessPoolExecutor(1, mp_context=spawn) as pool:
        far = pool.submit(asked, device).result(timeout=120)
        np.testing.assert_array_equal(far, device.infer(pictures(2)))


def test_certificates_deadlines_and_the_token_file_come_along_and_no_secret(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair, ours = authority.issue("device"), authority.issue("client")
    tls = ServerTls(cert_file=pair.certificate, key_file=pair.key, client_ca_file=authority.certificate)
    tokens, mine = tmp_path / "tokens", tmp_path / "mine.token"
    token = new_token(tokens, "infer", "one")
    mine.touch(mode=0o600)
    mine.write_text(token)
    files = {"ca_file": authority.certificate, "cert_file": ours.certificate, "key_file": ours.key, "token_file": mine}
    with Chip() as chip, serve(chip, tls=tls, tokens=tokens) as server:
        with pcmedge.connect(server.address, timeout_s=7.0, operation_timeout_s=11.0, **files) as device:
            kept = pickle.dumps(device)
        with pickle.loads(kept) as again, copy.deepcopy(again) as third:
            for each in (again, third):
                assert each.identity().serial == "emulator-0"
                assert (each.address, each._session.timeout_s) == (server.address, 7.0)
                assert each._session.operation_timeout_s == 11.0
        with (
            pcmedge.connect(server.address, **(files | {"token_file": None}), token=token) as device,
            pytest.raises(DeviceStateError, match="no place for a secret") as caught,
        ):
            pickle.dumps(device)
    assert token.encode() not in kept
    assert token not in str(caught.value)
    assert "token_file=" in str(caught.value)


def test_a_device_that_is_away_is_noticed_by_the_first_call(server: Server) -> None:
    with pcmedge.connect(server.address, timeout_s=2.0) as device:
        kept = pickle.dumps(device)
    server.stop()
    with pickle.loads(kept) as again, pytest.raises(UnavailableError, match="no device answers"):
        again.identity()


def test_a_digital_address_is_opened_again(tmp_path: Path) -> None:
    model = tmp_path / "10 %25 digits.onnx"
    shutil.copy(Path(pcmedge.__path__[0]) / "demo" / "digits.onnx", model)
    with pcmedge.connect(f"digital://{str(model).replace('%', '%25')}") as device:
        x = np.zeros((1, *device.model_spec().inputs[0].shape[1:]), np.float32)
        with pickle.loads(pickle.dumps(device)) as again:
            np.testing.assert_array_equal(again.infer(x), device.infer(x))
    with pcmedge.DigitalDevice(model) as device, pytest.raises(DeviceStateError, match="lives in this process"):
        pickle.dumps(device)


def test_what_cannot_be_opened_elsewhere_says_what_to_do_instead(server: Server) -> None:
    with pcmedge.Emulator() as emulator:
        for take in (pickle.dumps, copy.copy):
            with pytest.raises(DeviceStateError, match=r"<Device emulator emulator-0> .* worker_init_fn"):
                take(emulator)
        with pytest.raises(DeviceStateError, match="pickle the device"):
            pickle.dumps(emulator.lab)
    with (
        pcmedge.FallbackDevice(server.address, pcmedge.Emulator(classifier(), physics="ideal")) as pair,
        pytest.raises(DeviceStateError, match="Make a pair in each process"),
    ):
        pickle.dumps(pair)

    async def awaiting() -> None:
        async with await pcmedge.connect_async(server.address) as device:
            with pytest.raises(DeviceStateError, match="belongs to its event loop"):
                pickle.dumps(device)
            with pytest.raises(DeviceStateError, match="pickle the device"):
                pickle.dumps(device.lab)

    asyncio.run(awaiting())


def test_a_token_file_is_read_checked_and_warned_of(tmp_path: Path, server: Server) -> None:
    mine = tmp_path / "mine.token"
    with pytest.raises(FileMissingError, match="cannot read a token"):
        pcmedge.connect(server.address, token_file=mine)
    mine.touch(mode=0o600)
    mine.write_text("pcm_abc\n")
    with pytest.raises(InputValueError, match="give one"):
        pcmedge.connect(server.address, token="pcm_abc", token_file=mine)
    with pcmedge.connect(server.address, token_file=mine) as device:
        assert device._transport._metadata == [("authorization", "Bearer pcm_abc")]
    mine.chmod(0o644)
    with (
        pytest.warns(UserWarning, match="has mode 644: other users of this machine can use the token") as told,
        pcmedge.connect(server.address, token_file=mine),
    ):
        assert told[0].filename == __file__
