"""What every layer of an image costs: time in the emulator, energy and latency on the chip, and full converters."""

from pcmedge.profiling.result import LayerProfile, OperatorTime, Profile
from pcmedge.profiling.run import profile

__all__ = ["LayerProfile", "OperatorTime", "Profile", "profile"]
