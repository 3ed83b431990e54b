"""Bring the tables up to date, by the migrations that the package ships."""

from __future__ import annotations

from importlib import resources

from sqlalchemy import Connection, inspect, text

#: Replicas that start together take turns; any number will do, as long as all take the same.
_LOCK = 0x62697461


def migrate(connection: Connection) -> None:
    """Run the migrations that a database lacks.

    Args:
        connection: In a transaction.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    if _current(connection) != newest():
        _upgrade(connection)


def newest() -> str:
    """Return the revision of the newest migration, which its file begins with."""
    folder = resources.files("api.store.migrations") / "versions"
    names = (file.name for file in folder.iterdir() if file.name[:1].isdigit())
    return max(names).partition("_")[0]


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    # Alembic takes a quarter of a second to import, which a service whose tables are up to date does not wait for.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "api.store:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
