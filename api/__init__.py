"""The HTTP service and the ``bitalloc`` command.

``import api`` is cheap: the service lives in ``api.app``, the command in ``api.cli``; the client in
``bitalloc.client``.
"""
