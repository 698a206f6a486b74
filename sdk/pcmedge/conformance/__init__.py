"""Does a device keep the device contract? ``pcmedge conformance`` as a library; docs/device-contract.md has the rules.

>>> report = run_conformance("grpc://127.0.0.1:7390")
>>> report.passed, report.counts
"""

from pcmedge.conformance.report import DeviceUnderTest, Outcome, Report, Result, is_intact
from pcmedge.conformance.rules import Rule, all_rules
from pcmedge.conformance.running import run_conformance

__all__ = ["DeviceUnderTest", "Outcome", "Report", "Result", "Rule", "all_rules", "is_intact", "run_conformance"]
