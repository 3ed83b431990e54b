"""What Alembic runs around the migrations: they happen in the transaction of whoever called."""

from __future__ import annotations

from alembic import context

from api.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
