"""``pcmedge token``: the file of bearer tokens a device lets in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcmedge.cli.options import Json
from pcmedge.cli.registry import add_command
from pcmedge.protocol.roles import Role

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.protocol.tokens import TokenEntry

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Make, list and revoke the tokens of a device.")

TokenFile = Annotated[
    Path, typer.Option("--file", "-f", metavar="FILE", help="Token file of the device.", show_default=False)
]


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is; to tell tokens apart.", show_default=False)],
    file: TokenFile,
    role: Annotated[
        Role, typer.Option(help="infer: ask and look; operate: change the device too; lab: all of it.")
    ] = Role.INFER,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write the token here (mode 600), for --token-file, instead of printing it.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make a token and print it, this once: the device's file keeps its SHA-256 only.

    A device that is served with the file takes it at once. Give it to a client as $PCMEDGE_TOKEN, in a file
    (--token-file), or as connect(token=...).

    Exit codes: 0 made, 2 a name that is taken, or a file that is none or that others may read, 8 cannot write.

    \b
    Examples:
      pcmedge token new gate-3 --file tokens -o gate-3.token
      pcmedge token new maintenance --role operate --file tokens
      pcmedge serve --tokens tokens
    """
    from pcmedge.cli.output import Output
    from pcmedge.errors import FileUnwritableError
    from pcmedge.image.files import write_atomically
    from pcmedge.protocol.tokens import new_token

    out = Output(json=json)
    if output is not None:
        if output.exists():
            raise FileUnwritableError(
                f"{output} exists already, and may hold a token that is in use; name another file", path=output
            )
        token = new_token(file, role, name)
        write_atomically(output, f"{token}\n".encode(), mode=0o600)
        document = {"role": role, "name": name, "file": file, "output": output}
        out.result(document, lambda console: console.say(f"'{name}' may {role}; the token is in {output}"))
        return
    token = new_token(file, role, name)
    out.result({"token": token, "role": role, "name": name, "file": file}, lambda console: console.say(token))
    if not json:
        out.note(f"'{name}' may {role}; keep the token, it is not shown again")


def list_tokens(file: TokenFile, json: Json = False) -> None:
    """Names and roles of the tokens in a file; the tokens themselves are not in it.

    Exit codes: 0 listed, 2 no such file, or one that is wrong or that others may read.

    \b
    Example:
      pcmedge token list --file tokens
    """
    from pcmedge.cli.output import Output
    from pcmedge.protocol.tokens import read_tokens

    entries = read_tokens(file)
    document = {
        "tokens": [{"name": entry.name, "role": entry.role, "sha256": entry.digest} for entry in entries],
        "file": file,
    }
    Output(json=json).result(document, lambda console: _draw(console, entries))


def _draw(console: Screen, entries: tuple[TokenEntry, ...]) -> None:
    from rich.table import Table

    table = Table("name", "role", "SHA-256 begins")
    for entry in entries:
        table.add_row(entry.name, entry.role, entry.digest.hex()[:12])
    console.print(table)


def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As 'token list' shows it.", show_default=False)],
    file: TokenFile,
    json: Json = False,
) -> None:
    """Take a token out of a file. A device that is served with it refuses the next call; calls under way finish.

    Exit codes: 0 revoked, 2 no such token or file, 8 cannot write.

    \b
    Example:
      pcmedge token revoke gate-3 --file tokens
    """
    from pcmedge.cli.output import Output
    from pcmedge.protocol.tokens import revoke_token

    entry = revoke_token(file, name)
    document = {"revoked": entry.name, "role": entry.role, "file": file}
    Output(json=json).result(document, lambda console: console.say(f"'{entry.name}' is revoked"))


for _name, _command in (("new", new), ("list", list_tokens), ("revoke", revoke)):
    add_command(app, _name, _command)
