"""The HTTP service, its Python client and the ``bitalloc`` command.

``import api`` is cheap: the service lives in ``api.app``, the client in ``bitalloc.client``, the command in
``api.cli``.
"""
