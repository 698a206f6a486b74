"""``pcmedge lab faults`` and ``pcmedge diagnose``, on a served device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cli_process import run
from service_devices import served
from service_models import classifier


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with served(classifier()) as server:
        monkeypatch.setenv("PCMEDGE_DEVICE", server.address)
        yield


def test_a_broken_tile_is_found_left_and_mended(device: None, capsys: pytest.CaptureFixture[str]) -> None:
    healthy = run(capsys, "diagnose")
    assert healthy.code == 0
    assert "none has a fault" in healthy.out
    assert run(capsys, "lab", "faults", "list").out.strip() == "no faults"
    injected = run(capsys, "lab", "faults", "inject", "tile-lost", "--tile", "0", "--json")
    assert [(fault["kind"], fault["tile"]) for fault in injected.document["faults"]] == [("tile-lost", 0)]
    found = run(capsys, "diagnose", "--json")
    assert (found.code, found.document["retired_tiles"]) == (1, [0])
    assert found.document["tiles"][0]["findings"][0]["kind"] == "tile-lost"
    assert found.document["tiles"][0]["findings"][0]["row"] is None
    text = run(capsys, "diagnose").out
    assert "tile-lost" in text
    assert "program the image again" in text
    listed = run(capsys, "lab", "faults", "list")
    assert "1: tile-lost on tile 0" in listed.out
    assert run(capsys, "lab", "faults", "clear", "--tile", "0", "--json").document == {"faults": []}
    assert run(capsys, "diagnose", "--false-alarm-rate", "0.01", "--json").code == 0


def test_faults_go_to_all_tiles_unless_some_are_named(device: None, capsys: pytest.CaptureFixture[str]) -> None:
    every = run(capsys, "lab", "faults", "inject", "stuck-at-reset", "--amount", "0.001", "--json").document["faults"]
    assert [fault["tile"] for fault in every] == list(range(len(every)))
    assert len(every) > 1
    gain = ("adc-gain", "--tile", "1", "--tile", "0", "--amount", "0.1", "--spread")
    some = run(capsys, "lab", "faults", "inject", *gain)
    assert some.code == 0
    assert "more; --json has them all" in some.out
    left = run(capsys, "lab", "faults", "clear", "--json").document["faults"]
    assert left == []
    device_at = ("--tile", "1", "--row", "2", "--column", "3", "--minus")
    one = run(capsys, "lab", "faults", "inject", "stuck-at-g-max", *device_at)
    assert "stuck-at-g-max on tile 1, row 2, column 3, G-" in one.out
    refused = run(capsys, "lab", "faults", "inject", "dead-row", "--row", "70000", "--json")
    assert (refused.code, refused.error["reason"]) == (2, "INPUT_VALUE")
