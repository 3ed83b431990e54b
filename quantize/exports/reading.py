"""Files of other tools into rules, whatever is in them."""

from __future__ import annotations

from collections.abc import Mapping

from allocator import Fault, InvalidInputError
from allocator.contract.processor_time import ProcessorTimeError, processor_time
from quantize.exports.rules import MOST_S, Rules
from quantize.exports.target import ExportTarget


def rules_of(target: ExportTarget, files: Mapping[str, str]) -> Rules:
    """Parse files of a target.

    Args:
        files: File name → text.

    Returns:
        The rules.

    Raises:
        InvalidInputError: They are not the target's, are nested too deep, or take too long to read.
    """
    names = ", ".join(files)[:200]
    try:
        with processor_time(MOST_S):
            return target.parse(files)
    except ProcessorTimeError as error:
        detail = f"expected a configuration that is read within {MOST_S:g} s; {names} is too large or too intricate"
        raise InvalidInputError(Fault("", detail)) from error
    except RecursionError as error:
        raise InvalidInputError(Fault("", f"{names} is nested too deep")) from error
