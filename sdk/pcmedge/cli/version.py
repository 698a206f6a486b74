"""``pcmedge version``: which release and which contract this is, and whether the device's is another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcmedge.cli.options import DeviceUrl, Json, Timeout

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen


def run(device: DeviceUrl = None, timeout: Timeout = None, json: Json = False) -> None:
    """Show the version of pcmedge and of the device contract it speaks; with a device, both sides.

    \b
    Examples:
      pcmedge version
      pcmedge version --device grpc://10.0.0.7:7390 --json

    Exit codes: 0, also if the versions differ; 6 no device there; 9 what answers is no device of this contract version.
    """
    import os

    import pcmedge
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device
    from pcmedge.device._versions import compared, version_of
    from pcmedge.image.manifest import FORMAT_VERSION
    from pcmedge.protocol.version import OURS, spelled

    out = Output(json=json)
    document: dict[str, Any] = {
        "version": pcmedge.__version__,
        "contract": OURS,
        "image_format": FORMAT_VERSION,
        "device": None,
        "warning": "",
    }
    if device or os.environ.get("PCMEDGE_DEVICE"):
        with open_device(device, timeout_s=timeout) as connected:
            identity = connected.identity()
        contract = spelled(*version_of(identity))
        document["device"] = {
            "address": connected.address,
            "product": identity.product,
            "serial": identity.serial,
            "firmware_version": identity.firmware_version,
            "contract": contract,
        }
        if contract != OURS:
            document["warning"] = compared(version_of(identity))
    out.result(document, lambda console: _draw(console, document))


def _draw(console: Screen, document: dict[str, Any]) -> None:
    console.say(
        f"pcmedge {document['version']}, contract {document['contract']}, chip images of format "
        f"{document['image_format']}"
    )
    if found := document["device"]:
        console.say(
            f"{found['product']} {found['serial']} at {found['address']}: firmware {found['firmware_version']}, "
            f"contract {found['contract']}"
        )
    if document["warning"]:
        console.say(document["warning"], style="yellow")
