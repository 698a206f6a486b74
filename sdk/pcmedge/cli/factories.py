"""``package.module:factory``: a torch model named on the command line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from pcmedge.errors import FileMissingError, InputValueError, MissingExtraError


def load_source(text: str) -> Any:
    """What to compile: the path of an .onnx file, or the module that ``package.module:factory`` returns.

    The current folder is searched as ``python -m`` would. The factory takes no arguments; what it returns is handed to
    the compiler as it is. Raises FileMissingError, InputValueError.
    """
    path = Path(text)
    module_name, colon, factory_name = text.partition(":")
    if path.suffix == ".onnx" or path.exists() or not colon:
        if not path.is_file():
            hint = "" if path.suffix else " (for a torch model write package.module:factory)"
            raise FileMissingError(f"no such file: {path}{hint}", path=path)
        return path
    return _call(module_name, factory_name)


def _call(module_name: str, factory_name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as problem:
        missing = problem.name or ""
        if f"{module_name}.".startswith(f"{missing}.") and missing:
            raise FileMissingError(f"no module {module_name!r} here or installed", module=module_name) from problem
        if missing.partition(".")[0] == "torch":
            raise MissingExtraError.for_extra("train", f"The model {module_name}:{factory_name}") from problem
        raise _users_fault(f"importing {module_name}", problem) from problem
    except Exception as problem:
        raise _users_fault(f"importing {module_name}", problem) from problem
    found = getattr(module, factory_name, None)
    if found is None:
        raise InputValueError(f"module {module_name} has no {factory_name!r}", module=module_name)
    if not _is_factory(found):
        return found
    try:
        made = found()
    except Exception as problem:
        raise _users_fault(f"{module_name}:{factory_name}()", problem) from problem
    if made is None or isinstance(made, (str, bytes, Path)):
        raise InputValueError(
            f"{module_name}:{factory_name}() must return a model, found {type(made).__name__}: {made!r}."
        )
    return made


def _users_fault(what: str, problem: Exception) -> InputValueError:
    """The user's own code failed; --debug shows where."""
    return InputValueError(f"{what} failed: {type(problem).__name__}: {problem}. --debug shows where.")


def _is_factory(found: Any) -> bool:
    """A function or class to call, not a module that is ready (``nn.Module`` objects are callable too)."""
    return isinstance(found, type) or not hasattr(found, "state_dict")
