"""Reading other tools' files: what is missing or odd is named, with a pointer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer, require
from allocator.contract.processor_time import ProcessorTimeError, processor_time
from quantize.formats import StorageFormat, parse_format

_CONFIGURATIONS = (
    "hf_quant_config.json",
    "quantize_config.json",
    "quantization_config.json",
    "quant_config.json",
    "config.json",
)
Place = tuple[str | int, ...]
#: Processor time for reading one file.
_MOST_S = 2.0


def written(document: object) -> str:
    """Return JSON as people read it."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def read_json(files: Mapping[str, str]) -> tuple[Any, str]:
    """Read the JSON file among some files.

    Args:
        files: Name → text.

    Returns:
        Content and name of the file that holds a configuration by its name, else of the first ``.json`` file.

    Raises:
        InvalidInputError: There is none, or it is not JSON.
    """
    found = [name for name in files if name.endswith(".json")]
    # A folder with a checkpoint has more of them: of the tokenizer, of generation.
    name = next((name for name in _CONFIGURATIONS if name in found), found[0] if found else None)
    if name is None:
        raise InvalidInputError(Fault("", f"expected a .json file, got {', '.join(files) or 'nothing'}"))
    try:
        return json.loads(files[name]), name
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(Fault(f"/{name}", f"expected JSON: {error}")) from error


def read_yaml(files: Mapping[str, str]) -> tuple[Any, str]:
    """Read the YAML file among some files.

    Args:
        files: Name → text.

    Returns:
        Content and name of the first ``.yaml`` or ``.yml`` file.

    Raises:
        InvalidInputError: There is none, or it is not YAML.
    """
    yaml = require("yaml", "exports")
    name = next((name for name in files if name.endswith((".yaml", ".yml"))), None)
    if name is None:
        raise InvalidInputError(Fault("", f"expected a .yaml file, got {', '.join(files) or 'nothing'}"))
    try:
        with processor_time(_MOST_S):
            return yaml.safe_load(files[name]), name
    except yaml.YAMLError as error:
        raise InvalidInputError(Fault(f"/{name}", f"expected YAML: {error}")) from error
    except ProcessorTimeError as error:
        detail = f"expected a configuration that is read within {_MOST_S:g} s; this one is too large or nested too deep"
        raise InvalidInputError(Fault(f"/{name}", detail)) from error
    except RecursionError as error:
        raise InvalidInputError(Fault(f"/{name}", "expected YAML: it is nested too deep")) from error
    except Exception as error:
        # A value that its tag does not take (`!!int x`, the date 2001-99-99) fails inside of PyYAML in a dozen ways.
        raise InvalidInputError(Fault(f"/{name}", f"expected YAML: {str(error)[:200]}")) from error


def table(value: object, *where: str | int) -> dict[str, Any]:
    """Expect a table.

    Args:
        *where: Path to it.

    Returns:
        The value.

    Raises:
        InvalidInputError: It is something else.
    """
    if not isinstance(value, dict):
        raise InvalidInputError(Fault(pointer(where), f"expected a table of names, got {_kind(value)}"))
    return value


def entries(value: object, *where: str | int) -> list[Any]:
    """Expect a list.

    Args:
        *where: Path to it.

    Returns:
        The value.

    Raises:
        InvalidInputError: It is something else.
    """
    if not isinstance(value, list):
        raise InvalidInputError(Fault(pointer(where), f"expected a list, got {_kind(value)}"))
    return value


def texts(value: object, *where: str | int) -> list[str]:
    """Expect a list of texts; nothing counts as an empty one.

    Args:
        *where: Path to it.

    Returns:
        The texts.

    Raises:
        InvalidInputError: It is something else.
    """
    found = entries([] if value is None else value, *where)
    if odd := [item for item in found if not isinstance(item, str)]:
        raise InvalidInputError(Fault(pointer(where), f"expected texts, got {_kind(odd[0])}"))
    return found


def whole(settings: Mapping[str, Any], key: str, *where: str | int, default: int | None = None) -> int:
    """Expect a whole number.

    Args:
        settings: Where it stands.
        *where: Path to the settings.
        default: What an absent number means; without one it has to be there.

    Returns:
        The number.

    Raises:
        InvalidInputError: It is absent, or something else.
    """
    value = settings.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidInputError(Fault(pointer((*where, key)), f"expected a whole number, got {_kind(value)}"))
    return value


def width(settings: Mapping[str, Any], key: str, *where: str | int, default: int | None = None) -> int:
    """Expect a number of bits.

    Args:
        settings: Where it stands.
        *where: Path to the settings.
        default: What an absent number means; without one it has to be there.

    Returns:
        The number.

    Raises:
        InvalidInputError: It is absent, something else, or not between 1 and 32.
    """
    bits = whole(settings, key, *where, default=default)
    if not 1 <= bits <= 32:
        raise InvalidInputError(Fault(pointer((*where, key)), f"expected 1 to 32 bits, got {bits}"))
    return bits


def integer(bits: int, group_size: int | None, *, symmetric: bool) -> StorageFormat:
    """The integer format of other tools' numbers.

    Args:
        bits: Bits of a code; formats beyond 8 bits exist elsewhere.
        group_size: Group size; None, 0 or -1 for whole rows.
        symmetric: Whether there are no zero points.

    Returns:
        The format, named as in a Profile.

    Example:
        >>> integer(4, -1, symmetric=False).name
        'uint4'
    """
    size = group_size if group_size and group_size > 0 else None
    name = f"{'' if symmetric else 'u'}int{bits}" + (f"-g{size}" if size else "")
    return StorageFormat(name, bits, symmetric=symmetric, group_size=size)


def named_float(
    names: Mapping[str, str], own: str, bits: int, group_size: int | None
) -> StorageFormat | None:
    """One of our floating-point formats by another tool's name for it.

    Args:
        names: Our name → the tool's, which may stand for several.
        bits: Bits of a code.
        group_size: Group size; None, 0 or -1 for whole rows.

    Returns:
        The format; None where ours have other bits or groups.

    Example:
        >>> named_float({"mxfp8": "mx_fp", "mxfp4": "mx_fp"}, "mx_fp", 4, 32).name
        'mxfp4'
    """
    size = group_size if group_size and group_size > 0 else None
    formats = [parse_format(name) for name, theirs in names.items() if theirs == own]
    return next((item for item in formats if (item.bits, item.group_size) == (bits, size)), None)


def most_common(formats: Iterable[StorageFormat]) -> StorageFormat:
    """What a file states once, so that it names only the exceptions.

    Args:
        formats: Formats of the layers; not empty.

    Returns:
        The one that most layers have; the first of several.
    """
    return Counter(formats).most_common(1)[0][0]


def _kind(value: object) -> str:
    if isinstance(value, (dict, list)):  # their text may be endless: YAML names a part many times
        return f"{type(value).__name__} of {len(value)}"
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:60]!r}"
