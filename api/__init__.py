"""The HTTP service, its Python client and the ``bitalloc`` command.

``import api`` is cheap: the service lives in :mod:`api.app`, the client in :mod:`api.client`, the command in
:mod:`api.cli`.
"""
