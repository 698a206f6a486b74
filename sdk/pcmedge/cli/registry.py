"""Hang functions under a typer app with the help their docstrings hold."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import typer


def add_command(app: typer.Typer, name: str, command: Callable[..., Any], panel: str | None = None) -> None:
    """``command`` as the verb ``name``."""
    app.command(name, help=help_text(command), rich_help_panel=panel)(command)


def help_text(command: Callable[..., Any]) -> str:
    """The docstring with each paragraph on one line, for the terminal to wrap; those after ``\\b`` as they are."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(text if text.startswith("\b") else text.replace("\n", " ") for text in paragraphs)


def get_command(app: typer.Typer) -> Any:
    """The command line of ``app``, whose help names no type beside switches: ``--json``, not ``--json <bool>``."""
    command = typer.main.get_command(app)
    _plain_switches(command, command.context_settings)
    return command


def _plain_switches(command: Any, settings: Mapping[str, Any]) -> None:
    """Typer's help shows ``metavar`` in the column of types. ``settings``: the root's, which say how help is called."""
    help_option = command.get_help_option(command.context_class(command, **settings))
    for parameter in (*command.params, *([help_option] if help_option else [])):
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    for verb in getattr(command, "commands", {}).values():
        _plain_switches(verb, settings)
