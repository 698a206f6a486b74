"""Structured logs of a service on stderr: one line per event, text for people or JSON for machines (structlog)."""

from __future__ import annotations

import enum
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pcmedge.cli.plain import to_plain
from pcmedge.errors import Error
from pcmedge.log_events import event_of

_LOGGERS = ("pcmedge", "pcmedge_emulator")


class LogFormat(enum.StrEnum):
    text = "text"
    json = "json"


class LogLevel(enum.StrEnum):
    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


@contextmanager
def logging_to_stderr(log_format: LogFormat, level: LogLevel) -> Iterator[Any]:
    """A structlog logger until the end of the block; what the packages log with the standard library goes its way too.

    With JSON, an error that leaves the block is a line as well, because what people read of it is no JSON.
    """
    import structlog

    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _plain,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_named, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(log_format)],
        )
    )
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level.value.upper())
    log = structlog.wrap_logger(
        logging.getLogger("pcmedge.serve"),
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    try:
        yield log
    except Error as error:
        if log_format is LogFormat.json:
            log.error("error", reason=error.reason, note=error.message)
        raise
    finally:
        for logger, (handlers, propagate, old_level) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(old_level)


def _named(logger: Any, method: str, fields: Any) -> Any:
    """A line that was logged with the standard library, by the name of its event; its text is the note."""
    found = event_of(fields["_record"])
    if found is None:
        return fields
    name, more = found
    return fields | {"event": name, "note": fields["event"]} | more


def _plain(logger: Any, method: str, fields: Any) -> Any:
    """Paths, enumerations and numbers JSON has no word for, as everywhere on this command line."""
    return {
        name: value if name.startswith("_") or name == "exc_info" else to_plain(value) for name, value in fields.items()
    }


def _rendering(log_format: LogFormat) -> list[Any]:
    import structlog

    if log_format is LogFormat.json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, timestamp_key="time"
        )
    ]
