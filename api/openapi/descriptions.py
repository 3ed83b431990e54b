"""Descriptions of fields in the OpenAPI document, from the docstrings of the models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from allocator.contract.schema import Strict

_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {8,}.*)*)", re.MULTILINE)


def spread(schemas: Mapping[str, dict[str, Any]]) -> None:
    """Give every property of every model the line that the model's docstring has for it.

    Args:
        schemas: Name of a model → its JSON schema; changed in place. What a docstring says below ``Attributes:`` leaves
            the description of the model.
    """
    models = {model.__name__: model for model in _models(Strict)}
    for name, schema in schemas.items():
        text, found = split(schema.get("description", ""))
        if text:
            schema["description"] = text
        for base in models[name].__mro__ if name in models else ():
            found = split(base.__doc__ or "")[1] | found
        for field, definition in schema.get("properties", {}).items():
            if field in found:
                definition.setdefault("description", found[field])


def split(docstring: str) -> tuple[str, dict[str, str]]:
    r"""Split a docstring into its text and the descriptions of its attributes.

    Returns:
        The text before the first section, and attribute → description in one line.

    Example:
        >>> split("A plan.\n\nAttributes:\n    status: What was\n        proved.\n    gap: Distance.")
        ('A plan.', {'status': 'What was proved.', 'gap': 'Distance.'})
    """
    lines = docstring.strip().splitlines()
    deep = min((len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()), default=0)
    plain = "\n".join([*lines[:1], *(line[deep:] for line in lines[1:])])
    text = re.split(r"\n(?:Attributes|Example):\n", plain)[0].strip()
    section = re.search(r"^Attributes:\n((?:(?: {4}.*)?\n?)+)", plain, re.MULTILINE)
    named = _ATTRIBUTE.findall(section[1]) if section else ()
    return text, {name: " ".join(words.split()) for name, words in named}


def _models(model: type[Strict]) -> Iterator[type[Strict]]:
    yield model
    for child in model.__subclasses__():
        yield from _models(child)
