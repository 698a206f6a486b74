"""Bringing a chip of one's own behind the device contract; docs/bring-your-own-hardware.md is the guide."""

from pcmedge_emulator.driver.driven import DrivenChip
from pcmedge_emulator.driver.hardware import AS_PROGRAMMED, Answer, Description, Hardware, Measurement

__all__ = ["AS_PROGRAMMED", "Answer", "Description", "DrivenChip", "Hardware", "Measurement"]
