"""The command line of security: tokens, keys, signatures, and a service that asks for all of them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pcmedge
import pytest
from certificates import Authority
from cli_process import run, run_process, served, without_extras
from pcmedge.image import ChipImage
from service_models import classifier, pictures


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "small.pcmi"
    classifier().save(path)
    return path


def test_a_token_is_printed_once_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tokens"
    made = run(capsys, "token", "new", "gate-3", "--role", "operate", "--file", file, "--json")
    token = made.document["token"]
    assert (made.code, made.document["role"], made.document["name"]) == (0, "operate", "gate-3")
    assert run(capsys, "token", "new", "plain", "--file", file).out.startswith("pcm_")
    listed = run(capsys, "token", "list", "--file", file, "--json")
    assert [(each["name"], each["role"]) for each in listed.document["tokens"]] == [
        ("gate-3", "operate"),
        ("plain", "infer"),
    ]
    drawn = run(capsys, "token", "list", "--file", file)
    assert "gate-3" in drawn.out
    assert token not in listed.out + drawn.out + file.read_text()
    assert run(capsys, "token", "revoke", "gate-3", "--file", file, "--json").document["revoked"] == "gate-3"
    again = run(capsys, "token", "revoke", "gate-3", "--file", file, "--json")
    assert (again.code, again.error["reason"]) == (2, "NOT_FOUND")


def test_a_token_goes_into_a_file_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, mine = tmp_path / "tokens", tmp_path / "gate-3.token"
    made = run(capsys, "token", "new", "gate-3", "--file", file, "-o", mine, "--json")
    token = mine.read_text().strip()
    assert (made.code, set(made.document)) == (0, {"role", "name", "file", "output"})
    assert token.startswith("pcm_")
    assert token not in made.out + made.err
    assert mine.stat().st_mode & 0o777 == 0o600
    again = run(capsys, "token", "new", "gate-4", "--file", file, "-o", mine, "--json")
    assert (again.code, again.error["reason"]) == (8, "FILE_UNWRITABLE")
    assert [each["name"] for each in run(capsys, "token", "list", "--file", file, "--json").document["tokens"]] == [
        "gate-3"
    ]


def test_keys_sign_and_verify(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = run(capsys, "keygen", tmp_path / "vendor.key", "--json").document
    assert made["encrypted"] is False
    assert run(capsys, "keygen", tmp_path / "vendor.key", "--json").code == 8
    other = run(capsys, "keygen", tmp_path / "other.key", "--json").document
    unsigned = run(capsys, "verify", image, "--trusted-key", made["public_key"], "--json")
    assert (unsigned.code, unsigned.error["reason"]) == (3, "IMAGE_UNSIGNED")
    plain = run(capsys, "verify", image, "--json").document
    assert (plain["ok"], plain["trusted"], plain["signers"]) == (True, False, [])
    signed = tmp_path / "signed.pcmi"
    document = run(capsys, "sign", image, "--key", tmp_path / "vendor.key", "-o", signed, "--json").document
    assert document["signers"] == [made["key_id"]]
    assert ChipImage.open(image).signatures.signatures == []
    verified = run(capsys, "verify", signed, "--trusted-key", made["public_key"], "--json").document
    assert (verified["trusted"], verified["signers"]) == (True, [made["key_id"]])
    assert "signature" in run(capsys, "verify", signed, "--trusted-key", made["public_key"]).out
    wrong = run(capsys, "verify", signed, "--trusted-key", other["public_key"], "--json")
    assert (wrong.code, wrong.error["reason"]) == (3, "IMAGE_SIGNER_UNKNOWN")
    np.save(tmp_path / "mine.npy", pictures(8))
    made_of_it = run(capsys, "rebuffer", signed, tmp_path / "mine.npy", "-o", tmp_path / "mine.pcmi")
    assert (made_of_it.code, "sign it: pcmedge sign" in made_of_it.err) == (0, True)
    assert ChipImage.open(tmp_path / "mine.pcmi").signatures.signatures == []


def test_a_key_is_encrypted_with_the_passphrase_of_the_environment(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCMEDGE_KEY_PASSPHRASE", "correct horse")
    assert run(capsys, "keygen", tmp_path / "key", "--json").document["encrypted"] is True
    assert "; encrypted)" in run(capsys, "keygen", tmp_path / "another").out
    assert run(capsys, "sign", image, "--key", tmp_path / "key").code == 0
    monkeypatch.delenv("PCMEDGE_KEY_PASSPHRASE")
    assert "; not encrypted)" in run(capsys, "keygen", tmp_path / "open").out
    refused = run(capsys, "sign", image, "--key", tmp_path / "key", "--json")
    assert (refused.code, refused.error["reason"]) == (2, "INPUT_VALUE")


def test_the_public_half_is_no_key_to_sign_with(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    public = run(capsys, "keygen", tmp_path / "vendor.key", "--json").document["public_key"]
    before = image.read_bytes()
    (tmp_path / "copied").write_bytes(Path(public).read_bytes())
    for path in (Path(public), tmp_path / "copied"):
        refused = run(capsys, "sign", image, "--key", path, "--json")
        assert (refused.code, refused.error["reason"]) == (2, "INPUT_VALUE")
        assert f"{path} is the public half of a key" in refused.error["message"]
        assert "chmod" not in refused.error["message"]
        assert refused.error["message"].endswith(f", {tmp_path / 'vendor.key'}") == (path.suffix == ".pub")
    assert image.read_bytes() == before


def test_a_token_that_others_can_read_is_warned_of_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens, mine = tmp_path / "tokens", tmp_path / "mine.token"
    run(capsys, "token", "new", "one", "--file", tokens, "-o", mine)
    with served("--tokens", tokens) as (url, _):
        asked = ("devices", url, url, "--token-file", mine, "--json")
        assert run(capsys, *asked).err == ""
        for mode in (0o644, 0o620):
            mine.chmod(mode)
            told = run(capsys, *asked)
            assert (told.code, len(told.document["devices"])) == (0, 2)
            assert told.err.count("warning: the token file") == 1
            assert f"has mode {mode:o}" in told.err
        mine.chmod(0o640)
        assert run(capsys, *asked).err == ""


def test_a_service_that_asks_for_everything(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("device")
    tokens = tmp_path / "tokens"
    (tmp_path / "infer.token").write_text(run(capsys, "token", "new", "one", "--file", tokens).out)
    operate = run(capsys, "token", "new", "two", "--role", "operate", "--file", tokens).out.strip()
    run(capsys, "keygen", tmp_path / "vendor.key")
    unsigned = tmp_path / "unsigned.pcmi"
    classifier("other").save(unsigned)
    run(capsys, "sign", image, "--key", tmp_path / "vendor.key")
    monkeypatch.setenv("PCMEDGE_CA_FILE", str(authority.certificate))
    protection = ["--tls-cert", pair.certificate, "--tls-key", pair.key, "--tokens", tokens]
    policy = ["--signatures", "require", "--trusted-key", tmp_path / "vendor.key.pub"]
    with served(image, *protection, *policy) as (url, process):
        assert url.startswith("grpcs://")
        denied = run(capsys, "devices", url, "--json")
        assert "UNAUTHENTICATED" in denied.out
        alive = run(capsys, "health", "--require", "alive", "--device", url, "--json")
        assert (alive.code, alive.document["health"]) == (0, "alive")
        assert run(capsys, "health", "--device", url, "--json").code == 11
        there = run(capsys, "devices", url, "--token-file", tmp_path / "infer.token", "--json")
        assert (there.code, there.document["devices"][0]["url"]) == (0, url)
        monkeypatch.setenv("PCMEDGE_DEVICE", url)
        assert "lets nobody in without a token" in run(capsys, "devices").out
        monkeypatch.delenv("PCMEDGE_DEVICE")
        nobody = run(capsys, "images", "--device", url, "--json")
        assert (nobody.code, nobody.error["reason"]) == (11, "UNAUTHENTICATED")
        known = run(capsys, "images", "--device", url, "--token-file", tmp_path / "infer.token", "--json")
        assert known.code == 0
        low = run(capsys, f"--token-file={tmp_path / 'infer.token'}", "erase", "small", "--device", url, "--json")
        assert (low.code, low.error["reason"]) == (11, "PERMISSION_DENIED")
        assert run(capsys, "images", "--device", url, "--json").code == 11
        monkeypatch.setenv("PCMEDGE_TOKEN", operate)
        refused = run(capsys, "program", unsigned, "--device", url, "--json")
        assert (refused.code, refused.error["reason"]) == (3, "IMAGE_UNSIGNED")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert operate not in out + err
    assert "PRIVATE KEY" not in out + err


def test_a_failed_handshake_is_one_document_and_no_line_on_either_side(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Authority(tmp_path).issue("device")
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)
    options = ["--tls-cert", pair.certificate, "--tls-key", pair.key, "--log-format", "json"]
    with served(image, *options) as (url, process):
        refused = run_process("health", "--device", url, "--json")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert (refused.code, refused.error["reason"], refused.err) == (6, "CERTIFICATE_REFUSED", "")
    assert all(line.startswith("{") for line in log.splitlines())


def test_serve_refuses_what_would_be_open_to_everybody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_to_all = run(capsys, "serve", "--listen", "0.0.0.0:0", "--json")
    assert (open_to_all.code, open_to_all.error["reason"]) == (2, "INSECURE_ADDRESS")
    half = run(capsys, "serve", "--listen", "127.0.0.1:0", "--tls-cert", tmp_path / "cert.pem", "--json")
    assert "--tls-key" in half.error["message"]
    keyless = run(capsys, "serve", "--listen", "127.0.0.1:0", "--signatures", "require", "--json")
    assert "--trusted-key" in keyless.error["message"]


def test_what_cannot_be_served_is_refused_before_the_device_changes(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, pair = tmp_path / "store", Authority(tmp_path).issue("device")
    for wrong in (
        ["--listen", "0.0.0.0:0"],
        ["--listen", "nonsense"],
        ["--listen", "127.0.0.1:0", "--tokens", tmp_path / "none"],
        ["--listen", "127.0.0.1:0", "--tls-cert", pair.certificate, "--tls-key", pair.certificate],
    ):
        refused = run(capsys, "serve", image, "--store", store, *wrong, "--json")
        assert (refused.code, store.exists()) == (2, False), wrong


def test_without_the_extra_signing_says_what_to_install(image: Path, tmp_path: Path) -> None:
    entry = without_extras(tmp_path)
    missing = run_process("keygen", tmp_path / "key", "--json", entry=entry)
    assert (missing.code, missing.error["reason"]) == (10, "MISSING_EXTRA")
    assert "pcmedge[sign]" in missing.error["message"]
    token = run_process("token", "new", "one", "--file", tmp_path / "tokens", "--json", entry=entry)
    assert json.loads(token.out)["name"] == "one"


def test_the_service_writes_into_its_store_only(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not into its home, not into a cache; and the store it makes is its user's alone."""
    writable, closed = tmp_path / "var", tmp_path / "closed"
    writable.mkdir()
    closed.mkdir()
    store = writable / "store"
    for name, folder in (("HOME", closed), ("XDG_CACHE_HOME", closed), ("TMPDIR", writable)):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("PCMEDGE_NATIVE_CACHE", "")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")  # as in a shell: the service has to set it itself
    with served(image, "--store", store) as (url, _), pcmedge.connect(url) as device:
        device.program(classifier("other"))
        device.recalibrate(model="small")
    assert sorted(path.name for path in writable.rglob("*") if path.is_file() and path.parent != store / "native") == [
        "device.count",
        "device.lock",
        "device.sqlite3",
    ]
    assert list(closed.rglob("*")) == []
    assert store.stat().st_mode & 0o777 == 0o700
