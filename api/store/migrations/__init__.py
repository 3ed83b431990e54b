"""Migrations, run by Alembic at the start of the service."""
