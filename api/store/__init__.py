"""The database: profiles by their digest, what was planned, and the jobs; SQLite or PostgreSQL."""

from api.store.database import Store, open_store
from api.store.errors import PASSING, StoreDamagedError, StoreFullError, StoreUnavailableError
from api.store.ids import new_id

__all__ = [
    "PASSING",
    "Store",
    "StoreDamagedError",
    "StoreFullError",
    "StoreUnavailableError",
    "new_id",
    "open_store",
]
