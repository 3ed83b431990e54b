"""The database: profiles by their digest, what was planned, and the jobs; SQLite or PostgreSQL."""

from api.store.database import Store, open_store
from api.store.ids import new_id

__all__ = ["Store", "new_id", "open_store"]
