"""``bitalloc keys``: who may use the service."""

from __future__ import annotations

from typing import Annotated

import typer

from allocator.contract.errors import require
from api.cli.terminal import for_people, print_table

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys of the service.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What to call it: a person, a team or a program.")],
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Its own limit, for each replica.", min=1)
    ] = None,
    max_body_bytes: Annotated[int | None, typer.Option(help="Its own limit on bodies.", min=1)] = None,
) -> None:
    """Make a key and show it, once.

    Example: `bitalloc keys create notebook --requests-per-minute 600`

    The database holds only its SHA-256. As soon as there is a key, every request needs one.
    """
    require("sqlalchemy", "service")
    from api.keys.adopt import of_nobody
    from api.keys.table import create_key
    from api.settings import load_settings
    from api.store import open_store

    store = open_store(load_settings())
    try:
        key, text = create_key(store, name, requests_per_minute, max_body_bytes)
        left = of_nobody(store)
    finally:
        store.close()
    if left:
        counts = ", ".join(f"{count} {what}" for what, count in left.items())
        typer.echo(
            f"{counts} were stored without a key, and no key sees them; `bitalloc keys adopt {key.id}` gives them "
            "to this one",
            err=True,
        )
    typer.echo(f"key {key.id} ({key.name}); it is shown this once, keep it in a safe place:", err=True)
    typer.echo(text)


@app.command("list")
def list_() -> None:
    """List the keys, without their secrets."""
    require("sqlalchemy", "service")
    from api.keys.table import list_keys
    from api.settings import load_settings
    from api.store import open_store

    store = open_store(load_settings())
    try:
        keys = list_keys(store)
    finally:
        store.close()
    if not keys:
        typer.echo("no keys: the service is open to this machine and to nobody else")
        return
    columns = ("id", "name", "created", "revoked", "requests per minute", "body bytes")
    rows = []
    for key in keys:
        limits = (str(limit or "") for limit in (key.max_requests_per_minute, key.max_body_bytes))
        rows.append((key.id, key.name, key.created, key.revoked or "", *limits))
    print_table(for_people(), columns, rows)


@app.command()
def revoke(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="As `bitalloc keys list` shows it.")],
) -> None:
    """Refuse a key from now on; running services notice within a second."""
    require("sqlalchemy", "service")
    from api.keys.table import revoke_key
    from api.settings import load_settings
    from api.store import open_store

    store = open_store(load_settings())
    try:
        key = revoke_key(store, identifier)
    finally:
        store.close()
    typer.echo(f"key {key.id} ({key.name}) is revoked since {key.revoked}")


@app.command("adopt")
def adopt_(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="As `bitalloc keys list` shows it.")],
) -> None:
    """Give a key the profiles, plans and jobs that were stored before there were keys."""
    require("sqlalchemy", "service")
    from api.keys.adopt import adopt
    from api.settings import load_settings
    from api.store import open_store

    store = open_store(load_settings())
    try:
        given = adopt(store, identifier)
    finally:
        store.close()
    counts = ", ".join(f"{count} {what}" for what, count in given.items())
    typer.echo(f"key {identifier} now has {counts}" if given else "nothing was stored without a key")
