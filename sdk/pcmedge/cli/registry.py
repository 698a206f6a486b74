"""Hang functions under a typer app with the help their docstrings hold."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer


def add_command(app: typer.Typer, name: str, command: Callable[..., Any], panel: str | None = None) -> None:
    """``command`` as the verb ``name``."""
    app.command(name, help=help_text(command), rich_help_panel=panel)(command)


def help_text(command: Callable[..., Any]) -> str:
    """The docstring with each paragraph on one line, for the terminal to wrap; those after ``\\b`` as they are."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(text if text.startswith("\b") else text.replace("\n", " ") for text in paragraphs)
