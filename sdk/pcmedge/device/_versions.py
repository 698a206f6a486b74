"""Devices older or newer than this client: what they lack is named, with both versions of the contract."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pcmedge._contract import device_pb2, inference_pb2
from pcmedge.device._calls import Call, Script, Session
from pcmedge.errors import ContractVersionError, Error, UnimplementedError
from pcmedge.protocol.capabilities import CAPABILITY_OF_CALL
from pcmedge.protocol.version import CONTRACT_MINOR, CONTRACT_VERSION, OURS, spelled

Version = tuple[int, int]


def version_of(identity: Any) -> Version:
    """(version, minor) of an Identity, message or result. A device that says neither is as old as can be."""
    return identity.contract_version or CONTRACT_VERSION, identity.contract_minor


def compared(device: Version) -> str:
    """Both versions, and what to do if they differ: one sentence or two."""
    both = f"The device speaks contract {spelled(*device)}, this client {OURS}."
    if device < (CONTRACT_VERSION, CONTRACT_MINOR):
        return f"{both} Update the device's software for what it lacks."
    if device > (CONTRACT_VERSION, CONTRACT_MINOR):
        return f"{both} Update pcmedge for what is new."
    return both


def asks(session: Session, name: str) -> Call | None:
    """The call that finds out who refused the call ``name``; None if that is known, or was that very call."""
    if session.peer.contract is not None or name == "GetIdentity":
        return None
    return session.read("GetIdentity", device_pb2.GetIdentityRequest())


def explained(session: Session, name: str, error: UnimplementedError) -> Error:
    """The refusal of a call the device does not have, with the capability it belongs to and both versions."""
    device, capability = session.peer.contract, error.metadata.get("capability") or CAPABILITY_OF_CALL.get(name)
    if device is None or type(error) is not UnimplementedError:
        return error
    facts = {"call": name, "contract": spelled(*device), "client_contract": OURS} | error.metadata
    if capability:
        facts["capability"] = capability
    message = error.message
    # A device of our own age that says itself what it lacks needs no explanation.
    if device != (CONTRACT_VERSION, CONTRACT_MINOR) or "address" in error.metadata:
        named = f" {name} belongs to capability '{capability}'." if capability else ""
        message = f"{message.rstrip('.')}.{named} {compared(device)}"
    return error.said_as(message, facts)


def needs(session: Session, capability: str, what: str) -> Script[None]:
    """UnimplementedError unless the device has ``capability``: an older one would ignore ``what`` without a word."""
    found = yield session.read("GetIdentity", device_pb2.GetIdentityRequest())
    session.peer.contract = version_of(found)
    if capability not in found.capabilities:
        raise lacking(found, capability, what)


def lacking(identity: Any, capability: str, what: str) -> UnimplementedError:
    """What to raise where a device, known by its Identity, lacks a capability."""
    device = version_of(identity)
    return UnimplementedError(
        f"{identity.product} {identity.serial} has no {what} (capability '{capability}'). {compared(device)}",
        capability=capability,
        contract=spelled(*device),
        client_contract=OURS,
    )


def check_contract(session: Session, address: str) -> Script[None]:
    """Whether who answers is a device of our version of the contract. ContractVersionError if not.

    Connecting runs it, or the first call of a lazy connection.
    """
    try:
        found = yield session.read("GetIdentity", device_pb2.GetIdentityRequest())
    except UnimplementedError as error:
        name = yield from _own_name(session)
        raise ContractVersionError(
            f"what answers at {address}{name} is no PCM device of contract version {CONTRACT_VERSION}: it does not "
            "know pcm.device.v1.DeviceService. Check the address; if it is a device, it speaks another version: update "
            "the older side",
            address=address,
            client_contract=OURS,
        ) from error
    session.peer.contract = contract = version_of(found)
    if contract[0] != CONTRACT_VERSION:
        older = "pcmedge" if contract[0] > CONTRACT_VERSION else "the device's software"
        raise ContractVersionError(
            f"{found.product} {found.serial} at {address} speaks contract version {spelled(*contract)}, this "
            f"client {OURS}; different versions do not understand each other. Update {older}",
            address=address,
            contract=spelled(*contract),
            client_contract=OURS,
        )
    session.peer.unmet = ""


def _own_name(session: Session) -> Script[str]:
    """What a server of the Open Inference Protocol calls itself, in words that fit into a sentence."""
    try:
        reply = yield session.read("ServerMetadata", inference_pb2.ServerMetadataRequest())
    except Error:
        return ""
    return f" ({' '.join(_words((reply.name, reply.version)))})"


def _words(texts: Iterable[str]) -> list[str]:
    return [text for text in texts if text] or ["it does not say its name"]
