"""The README's ten lines run, and what it links to exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return README.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_the_ten_lines_run() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", section("Ten lines"), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert found.returncode == 0, found.stderr
    seen = dict(re.findall(r"^(fresh|after a year|recalibrated) ([\d.]+)$", found.stdout, re.MULTILINE))
    assert float(seen["fresh"]) > 0.9
    assert float(seen["after a year"]) < 0.6
    assert float(seen["recalibrated"]) > 0.9


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
