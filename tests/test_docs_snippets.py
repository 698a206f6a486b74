"""The documentation: its Python blocks run, its command lines parse, its links lead somewhere."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import pytest
import typer
from pcmedge import errors
from pcmedge.cli.main import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FRAGMENT = "# A fragment: "
"""The first line of a block that needs something of the reader's."""


def blocks(page: Path, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```\n", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [code for language, code in found if language in languages]


SNIPPETS = [
    pytest.param(code, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, code in enumerate(blocks(page, "python"), start=1)
]
LINES = [
    (page.name, line) for page in PAGES for code in blocks(page, "", "sh", "console") for line in code.splitlines()
]


@pytest.mark.parametrize("code", SNIPPETS)
def test_python_blocks_run(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runnable = compile(code, "a block of the documentation", "exec")
    if not code.startswith(FRAGMENT):
        monkeypatch.chdir(tmp_path)
        exec(runnable, {"__name__": "__main__"})


def test_command_lines_name_verbs_and_options_that_exist() -> None:
    command = typer.main.get_command(app)
    unknown: list[tuple[str, str]] = []
    found = 0
    for page, line in LINES:
        spoken = re.fullmatch(r"(?:\$ )?(?:[A-Z_]+=\S+ )*(pcmedge .*)", line)
        if spoken is None:
            continue
        found += 1
        words = shlex.split(spoken[1], comments=True)
        verb = getattr(command, "commands", {}).get(words[1])
        if words[1] in ("lab", "token"):
            verb = verb.commands.get(words[2])
        if verb is None:
            unknown.append((page, line))
            continue
        options = {name for parameter in verb.params for name in parameter.opts} | {"--help", "-h"}
        unknown += [(page, word) for word in words[2:] if word.startswith("-") and word.split("=")[0] not in options]
    assert found >= 8
    assert unknown == []


def test_the_table_of_exit_codes_has_every_reason() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]*) \|$", (ROOT / "docs" / "cli.md").read_text("utf-8"), re.MULTILINE)
    documented = {reason: int(code) for code, reasons in rows for reason in re.findall(r"`([A-Z_*]+)`", reasons)}
    classes = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.Error)]
    for each in classes:
        if each is not errors.Error:
            family = each.reason.split("_")[0] + "_*"
            assert documented.get(each.reason, documented.get(family)) == each.exit_code, each.__name__


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\((?!https?://)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, section = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (section and section not in sections(target)):
            broken.append(link)
    assert broken == []


def sections(page: Path) -> set[str]:
    """The names by which GitHub links to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
