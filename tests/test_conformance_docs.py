"""docs/conformance.md lists exactly the checks of the suite; every rule of the contract is tested or says why not."""

from __future__ import annotations

import re
from pathlib import Path

from pcmedge.conformance import all_rules

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = (DOCS / "conformance.md").read_text(encoding="utf-8")
CONTRACT = (DOCS / "device-contract.md").read_text(encoding="utf-8")


def test_the_page_lists_the_checks() -> None:
    rows = re.findall(r"^\| (R\d+\.\d+) \| (.+?) \| (.*?) ?\|$", PAGE, re.MULTILINE)
    listed = [(number, text, set(re.findall(r"`([a-z.-]+)`", said)), "restart" in said) for number, text, said in rows]
    made = sorted(all_rules(), key=lambda rule: rule.order)
    assert listed == [(rule.number, rule.text, set(rule.needs), rule.restarts) for rule in made]


def test_every_rule_of_the_contract_is_tested_or_says_why_not() -> None:
    rules = CONTRACT.split("## Rules")[1].split("## Reasons")[0]
    numbers = {int(number) for number in re.findall(r"^(\d+)\. ", rules, re.MULTILINE)}
    untested = PAGE.split("## Rules without a check")[1].split("## The checks")[0]
    excused = {int(number) for number in re.findall(r"^\| (\d+) \|", untested, re.MULTILINE)}
    tested = {rule.order[0] for rule in all_rules()}
    assert tested | excused == numbers
    assert not tested & excused


def test_promises_are_sentences() -> None:
    for rule in all_rules():
        assert rule.text.endswith("."), rule.number
        assert rule.check.__name__ != "<lambda>", rule.number
