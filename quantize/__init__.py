"""Plans made real: formats with exact bytes, reference rounding, and backends that run the result.

``import quantize`` works without torch; backends import what they need when they are used.
"""

from quantize.backends import BACKENDS, apply
from quantize.codec import Codec
from quantize.formats import FORMATS, StorageFormat, own_format, parse_format, register_format
from quantize.plan import formats_of
from quantize.rounding.methods import METHODS, NEAREST, Rounding, restored, rounded
from quantize.rounding.moments import Moments
from quantize.rounding.nearest import quantize, round_trip
from quantize.rounding.quantized import Quantized

__all__ = [
    "BACKENDS",
    "METHODS",
    "NEAREST",
    "Codec",
    "FORMATS",
    "StorageFormat",
    "Moments",
    "Quantized",
    "Rounding",
    "apply",
    "formats_of",
    "own_format",
    "parse_format",
    "quantize",
    "register_format",
    "restored",
    "round_trip",
    "rounded",
]
