"""What to expect of a chip image on the chip: where digital and device part, and what accuracy remains.

``check`` compares layer by layer, ``expect`` measures accuracy (or agreement) on several emulated chips as they age.
Both emulate: they need the extra ``emulator``. docs/compiler.md shows both.
"""

from pcmedge.checking.check import check
from pcmedge.checking.expect import expect
from pcmedge.checking.result import Check, Effect, Expectation, LayerCheck, LayerCost, Moment

__all__ = ["Check", "Effect", "Expectation", "LayerCheck", "LayerCost", "Moment", "check", "expect"]
