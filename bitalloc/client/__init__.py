"""A typed client for the service, blocking and asynchronous; it needs neither the service nor torch.

A profile is sent once, and only to a service that lacks it; what failed on the way is sent again, which is safe because
every plan has an idempotency key. Errors of the service come back as the exceptions that the library itself raises: a
request that cannot be used raises :class:`~allocator.contract.errors.InvalidInputError` with the same pointers,
anything else :class:`ServiceError`.
"""

from bitalloc.client.asynchronous import AsyncClient
from bitalloc.client.blocking import Client
from bitalloc.client.errors import ServiceError
from bitalloc.client.events import JobEvent
from bitalloc.client.retry_policy import RetryPolicy
from bitalloc.operations import Side

__all__ = ["AsyncClient", "Client", "JobEvent", "RetryPolicy", "ServiceError", "Side"]
