"""``keys create|list|revoke``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from tokenbudget.cli.console import print_rows
from tokenbudget.cli.options import with_options
from tokenbudget.cli.start import started
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import format_instant
from tokenbudget.services.keys import (
    ON_MISSING,
    SCOPES,
    TRUSTS,
    KeyPolicy,
    create_key,
    list_all_keys,
    revoke,
)

app = typer.Typer(help="API keys.", no_args_is_help=True)
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """What a new key is to be."""

    name: Annotated[str, typer.Argument(help="Who or what will use the key")]
    scopes: Annotated[list[str], typer.Option("--scope", help=", ".join(SCOPES))]
    pins: Annotated[
        list[str] | None, typer.Option("--pin", help="TAG=VALUE that beats what the caller says")
    ] = None
    required_tags: Annotated[
        list[str] | None, typer.Option("--require", help="TAG that its usage must have")
    ] = None
    on_missing: Annotated[
        str, typer.Option(help=f"What becomes of usage without it: {', '.join(ON_MISSING)}")
    ] = ON_MISSING[0]
    trust: Annotated[
        str, typer.Option(help=f"How far its tags are believed: {', '.join(TRUSTS)}")
    ] = TRUSTS[0]
    as_json: JsonOption = False


@app.command("create")
@with_options(KeyOptions)
def create(options: KeyOptions) -> None:
    """Make a key and print its secret, this once."""
    pinned = dict(_pair(pin) for pin in options.pins or [])
    policy = KeyPolicy(options.trust, tuple(options.required_tags or ()), options.on_missing)
    services = started()
    key = create_key(
        services.database,
        name=options.name,
        scopes=options.scopes,
        pinned_tags=pinned,
        now=services.clock(),
        policy=policy,
    )
    row = {"id": key.key_id, "name": key.name, "scopes": ",".join(key.scopes), "secret": key.secret}
    print_rows("New API key (the secret is not shown again)", [row], as_json=options.as_json)


@app.command("list")
def show(as_json: JsonOption = False) -> None:
    """Show every key without its secret."""
    services = started()
    rows = [
        {
            "id": key.id,
            "name": key.name,
            "scopes": ",".join(key.scopes),
            "pinned": ",".join(f"{name}={value}" for name, value in key.pinned_tags.items()),
            "trust": key.trust,
            "required": ",".join(key.required_tags),
            "on_missing": key.on_missing,
            "created_at": format_instant(key.created_at),
            "revoked_at": format_instant(key.revoked_at) if key.revoked_at else None,
        }
        for key in list_all_keys(services.database)
    ]
    print_rows("API keys", rows, as_json=as_json)


@app.command("revoke")
def revoke_one(key_id: Annotated[str, typer.Argument(help="The key's id")]) -> None:
    """Revoke a key for good."""
    services = started()
    revoke(services.database, key_id, now=services.clock())
    print(
        f"key {key_id} is revoked; workers stop accepting it within "
        f"{services.settings.key_cache_seconds} s"
    )


def _pair(pin: str) -> tuple[str, str]:
    name, separator, value = pin.partition("=")
    if not (separator and name and value):
        raise InvalidInput(f"--pin {pin!r} must be TAG=VALUE")
    return name, value
