"""The database: profiles by their digest, what was planned, and the jobs; SQLite or PostgreSQL."""

from api.ids import new_id
from api.store.database import Store, open_store

__all__ = ["Store", "new_id", "open_store"]
