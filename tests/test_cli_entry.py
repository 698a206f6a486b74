"""The command leaves without a word when Ctrl-C comes while it is still being imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
INTERRUPTED_WHILE_IMPORTED = f"""
import os
os.kill(os.getpid(), {int(signal.SIGINT)})
"""
HIDES_IT = f"""
import os
try:
    os.kill(os.getpid(), {int(signal.SIGINT)})
    for _ in range(10**6):
        pass
except KeyboardInterrupt:
    raise ImportError("typer could not be imported")
"""
COMMANDS = {
    "console script": ["-c", "from pcmedge.cli.entry import main; main()", "doctor"],
    "python -m pcmedge": ["-m", "pcmedge", "doctor"],
    "python -m pcmedge_emulator": ["-m", "pcmedge_emulator"],
}


def run(command: list[str], *folders: Path, ignoring: bool = False) -> subprocess.CompletedProcess[str]:
    """The command with what is in ``folders`` found first; Ctrl-C is ignored by it if its parent wishes so."""
    path = os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")])
    parent = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"] if ignoring else []
    return subprocess.run(
        [*parent, sys.executable, *command],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("package", [INTERRUPTED_WHILE_IMPORTED, HIDES_IT], ids=["plain", "as ImportError"])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_ctrl_c_during_the_imports_ends_the_command_silently(command: list[str], package: str, tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text(package)
    found = run(command, tmp_path)
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "")


def test_a_parent_that_ignores_ctrl_c_is_obeyed() -> None:
    code = f"import os; os.kill(os.getpid(), {int(signal.SIGINT)}); from pcmedge.cli.entry import main; main()"
    found = run(["-c", code, "--version"], ignoring=True)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("pcmedge ")


def test_the_installed_command_begins_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["scripts"]["pcmedge"] == "pcmedge.cli.entry:main"


def test_importing_the_package_imports_next_to_nothing() -> None:
    code = "import sys; import pcmedge; print(sorted({n.partition('.')[0] for n in sys.modules} & {'typing', 'email'}))"
    found = run(["-S", "-c", code], *(Path(entry) for entry in sys.path if entry.endswith("sdk")), ROOT / "sdk")
    assert (found.stdout.strip(), found.stderr) == ("[]", "")
