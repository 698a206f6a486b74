"""Options of a verb from a TOML file and from the environment, for those that are not on the command line.

The verb's signature is the one list of settings: names, types and bounds are read from it (pydantic-settings), and what
is found becomes the defaults of the command line. So an option that is added can be configured, without a line here.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcmedge.cli.plain import to_plain
from pcmedge.errors import Error, FileMissingError, InputValueError, MissingExtraError

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from pcmedge.cli.output import Output

_ONLY_ON_THE_COMMAND_LINE = ("context", "config", "print_config", "json")
_ORIGINS = "pcmedge.origins"
_OUTSIDE = ("environment ", "file ")
_SECRET = re.compile(r"token|password|secret|passphrase")
MASK = "********"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One effective value. ``origin``: "command line", "environment NAME", "file PATH" or "default"."""

    value: Any
    origin: str
    unset: str = ""
    """What the verb does without a value, in words."""


def apply(context: typer.Context, verb: Callable[..., Any], prefix: str, config: Path | None) -> None:
    """Make what ``config`` and the variables ``prefix``NAME say the defaults of this command line.

    Raises FileMissingError, InputValueError (no TOML, an unknown key with the nearest known one, a value of the wrong
    kind, each with where it stands), MissingExtraError.
    """
    context.meta[_ORIGINS] = {}
    variables = {name for name in os.environ if name.upper().startswith(prefix) and name.upper() != f"{prefix}CONFIG"}
    if context.resilient_parsing or (config is None and not variables):
        return
    try:
        from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource
    except ModuleNotFoundError as problem:
        raise MissingExtraError.for_extra("emulator", "Configuration by file or environment") from problem
    model = _model(verb, prefix)
    known = list(model.model_fields)
    for name in sorted(variables):
        _check_known(name.upper().removeprefix(prefix).lower(), known, f"environment variable {name}", prefix=prefix)
    written: dict[str, Any] = {}
    if config is not None:
        _check_file(config)
        written = dict(TomlConfigSettingsSource(model, toml_file=config)())
        for name in written:
            _check_known(name, known, f"configuration file {config}")
    from_environment = _read(EnvSettingsSource(model)) if variables else {}
    origins = dict.fromkeys(written, f"file {config}")
    origins |= {name: f"environment {prefix}{name.upper()}" for name in from_environment}
    context.meta[_ORIGINS] = origins
    context.default_map = {**(context.default_map or {}), **_validated(model, written | from_environment, origins)}


def checked(parse: Callable[[str], object]) -> Callable[[typer.Context, typer.CallbackParam, str | None], str | None]:
    """A callback for an option whose text ``parse`` reads later: what it raises names the option and where it stands.

    The option's value stays its text.
    """

    def check(context: typer.Context, parameter: typer.CallbackParam, value: str | None) -> str | None:
        if value is not None:
            try:
                parse(value)
            except Error as problem:
                name = parameter.name or ""
                origin = _origin(context, name)
                where = f"{origin}: {name}" if origin.startswith(_OUTSIDE) else max(parameter.opts, key=len)
                metadata = problem.metadata | {"key": name}
                raise type(problem)(f"{where}: {problem.message}", **metadata) from problem
        return value

    return check


def effective(context: typer.Context, verb: Callable[..., Any]) -> dict[str, Setting]:
    """Every setting of a parsed command line by name."""
    names = _fields(verb)
    found = {}
    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in names:
            continue
        unset = getattr(parameter, "show_default", "")
        found[name] = Setting(
            value=_masked(name, context.params[name]),
            origin=_origin(context, name),
            unset=unset if isinstance(unset, str) else "",
        )
    return found


def _origin(context: typer.Context, name: str) -> str:
    origins: Mapping[str, str] = context.meta.get(_ORIGINS, {})
    source = context.get_parameter_source(name)
    words = {"COMMANDLINE": "command line", "DEFAULT_MAP": origins.get(name, "default")}
    return words.get(source.name if source else "", "default")


def show(context: typer.Context, verb: Callable[..., Any], out: Output) -> None:
    """Print the effective settings as TOML that --config reads, with where each came from, or as JSON."""
    settings = effective(context, verb)
    document = {name: {"value": setting.value, "from": setting.origin} for name, setting in settings.items()}
    lines = "\n".join(_toml_line(name, setting) for name, setting in settings.items())
    out.result({"config": document}, lambda console: console.say(lines))


# ------------------------------------------------------------------------------------------------------- what is known


def _fields(verb: Callable[..., Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(verb, include_extras=True)
    return {name: hint for name, hint in hints.items() if name not in (*_ONLY_ON_THE_COMMAND_LINE, "return")}


def _model(verb: Callable[..., Any], prefix: str) -> type[BaseSettings]:
    """A settings class with a field per option, of its type and within its bounds."""
    from pydantic import Field, create_model
    from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

    class Outside(BaseSettings):
        model_config = SettingsConfigDict(
            env_prefix=prefix, env_ignore_empty=True, extra="forbid", validate_default=False
        )

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            # The sources are read one by one above, so that each value's origin is known.
            return (init_settings,)

    fields: dict[str, Any] = {}
    for name, hint in _fields(verb).items():
        kind, option = typing.get_args(hint)[:2]
        fields[name] = (Annotated[kind, Field(ge=option.min, le=option.max)], None)
    model: type[BaseSettings] = create_model("Settings", __base__=Outside, **fields)
    return model


def _check_known(name: str, known: list[str], where: str, *, prefix: str = "") -> None:
    if name in known:
        return
    spelled = [f"{prefix}{each.upper()}" if prefix else each for each in known]
    asked = f"{prefix}{name.upper()}" if prefix else name
    nearest = difflib.get_close_matches(asked.replace("-", "_"), spelled, n=1, cutoff=0.0)[0]
    raise InputValueError(
        f"{where}: there is no setting {asked!r}. The nearest is {nearest!r}; --print-config shows them all.",
        key=asked,
        nearest=nearest,
    )


# ------------------------------------------------------------------------------------------------------------- sources


def _check_file(path: Path) -> None:
    try:
        tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as problem:
        raise FileMissingError(f"there is no configuration file {path}", path=path) from problem
    except OSError as problem:
        raise InputValueError(f"cannot read the configuration file {path}: {problem.strerror}", path=path) from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise InputValueError(f"the configuration file {path} is not TOML: {problem}", path=path) from problem


def _read(source: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    from pydantic_settings import SettingsError

    try:
        return dict(source())
    except SettingsError as problem:
        raise InputValueError(f'{problem}: expected JSON, for example ["a", "b"]') from problem


def _validated(model: type[BaseSettings], values: dict[str, Any], origins: Mapping[str, str]) -> dict[str, Any]:
    """Values as the command line takes them."""
    from pydantic import ValidationError

    try:
        settings = model(**values)
    except ValidationError as problem:
        details = problem.errors(include_url=False, include_input=False)
        # A secret that was given wrongly must not be printed, hence no input.
        lines = [_wrong(origins[str(each["loc"][0])], str(each["loc"][0]), each) for each in details]
        raise InputValueError("; ".join(lines), key=details[0]["loc"][0]) from problem
    return settings.model_dump(mode="json", include=set(values))


def _wrong(origin: str, name: str, detail: Mapping[str, Any]) -> str:
    told = f"{origin}: {name}: {detail['msg']}"
    if detail["type"] != "list_type":
        return told
    # What the command line takes one by one comes as one list here.
    listed = '["first", "second"]'
    variable = origin.removeprefix("environment ")
    return f"{told}, as in " + (f"{name} = {listed}" if variable == origin else f"{variable}='{listed}' (JSON)")


# ------------------------------------------------------------------------------------------------------------- showing


def _masked(name: str, value: Any) -> Any:
    """Secrets given as text are not shown; the path of a file that holds one is no secret."""
    return MASK if _SECRET.search(name) and isinstance(value, str) and value else to_plain(value)


def _toml_line(name: str, setting: Setting) -> str:
    if setting.value is None or setting.value == []:
        unset = f" ({setting.unset})" if setting.unset else ""
        return f"# {name} is not set{unset}"
    # JSON's strings, numbers, booleans and flat lists are TOML's, but for one control character.
    text = json.dumps(setting.value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"{name} = {text}  # {setting.origin}"
