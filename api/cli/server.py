"""A service in place of this process, or of a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from allocator.contract.errors import require

if TYPE_CHECKING:
    from bitalloc.wire import StoredAllocation


@dataclass(frozen=True)
class Server:
    """Who plans, and who keeps plans.

    Attributes:
        url: A service; None plans in this process.
        api_key: Its key, where it asks for one.
    """

    url: str | None = None
    api_key: str | None = None


#: No service.
HERE = Server()


def stored_plan(path: Path, server: Server) -> StoredAllocation | None:
    """Get a plan that a service keeps, where the command names one by its id.

    Args:
        path: What the command was given for a plan.

    Returns:
        The plan; None where there is no service, or this is the name of a file.
    """
    if server.url is None or not re.fullmatch("[0-9a-f]{32}", str(path)) or path.exists():
        return None
    require("httpx2", "client")
    from bitalloc.client import Client

    with Client(server.url, api_key=server.api_key) as client:
        return client.allocation(str(path))
