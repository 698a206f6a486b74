"""The same model on an ordinary processor, behind the same Device: the yardstick a chip is compared with."""

from pcmedge.digital.device import AsyncDigitalDevice, DigitalDevice

__all__ = ["AsyncDigitalDevice", "DigitalDevice"]
