"""What an exception that reaches the command line means to its user."""

from __future__ import annotations

from typing import Any

import typer

from pcmedge.errors import (
    CancelledError,
    Error,
    FileMissingError,
    FileUnwritableError,
    InputError,
    InputValueError,
    InternalError,
    MissingExtraError,
)

EXTRA_OF = {
    "onnx": "emulator",
    "onnxruntime": "emulator",
    "grpc_health": "emulator",
    "prometheus_client": "metrics",
    "pydantic_settings": "emulator",
    "pyarrow": "data",
    "matplotlib": "data",
    "PIL": "data",
    "cryptography": "sign",
    "torch": "train",
    "onnxscript": "train",
}
"""The extra that brings a package, for one that turns out to be missing where the library did not expect it."""


def as_error(problem: Exception) -> Error:
    """The typed error for any exception; what nobody foresaw is our bug (InternalError)."""
    if isinstance(problem, InputError) and problem.metadata.get("argument") == "model":
        # The library names its argument; on the command line it is an option.
        return type(problem)(problem.message.replace("model=", "--model"), **problem.metadata)
    if isinstance(problem, Error):
        return problem
    if isinstance(problem, typer.Abort):
        return CancelledError("aborted")
    if isinstance(problem, ModuleNotFoundError):
        extra = EXTRA_OF.get((problem.name or "").partition(".")[0])
        if extra is not None:
            return MissingExtraError.for_extra(extra, "This command")
    if isinstance(problem, FileNotFoundError) and problem.filename is not None:
        return FileMissingError(f"no such file: {problem.filename}", path=problem.filename)
    if isinstance(problem, OSError) and problem.filename is not None:
        return InputValueError(f"cannot use {problem.filename}: {problem.strerror}", path=problem.filename)
    if isinstance(problem, OSError):
        return FileUnwritableError(f"cannot read or write: {problem}")
    kind = type(problem).__name__
    return InternalError(f"{kind}: {problem}. This is a bug in pcmedge; please report it with what --debug shows.")


def usage(problem: Any) -> str | None:
    """What is wrong with a command line the parser refused, None if that is not what happened.

    The parser's exceptions are told by their interface, because typer moved them between releases.
    """
    if not hasattr(problem, "format_message"):
        return None
    context = getattr(problem, "ctx", None)
    hint = f" See: {context.command_path} --help" if context is not None else ""
    return f"{problem.format_message().rstrip('.')}.{hint}"
