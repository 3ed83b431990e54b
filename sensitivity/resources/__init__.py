"""Resources by name. To add one: write ``sensitivity/resources/<name>.py`` and list its function here."""

from sensitivity.resources.activation_bytes import activation_bytes
from sensitivity.resources.bops import bops
from sensitivity.resources.kv_bytes import kv_bytes
from sensitivity.resources.latency_table import latency_table
from sensitivity.resources.latency_us import latency_us
from sensitivity.resources.mac_bits import mac_bits
from sensitivity.resources.onnxruntime_kernels import onnxruntime_kernels
from sensitivity.resources.roofline import device_names, load_device, roofline
from sensitivity.resources.spent import Resource, Spent
from sensitivity.resources.weight_bytes import weight_bytes

__all__ = [
    "RESOURCES",
    "Resource",
    "Spent",
    "activation_bytes",
    "bops",
    "kv_bytes",
    "latency_table",
    "latency_us",
    "mac_bits",
    "onnxruntime_kernels",
    "roofline",
    "weight_bytes",
    "device_names",
    "load_device",
]

#: What a plan can spend. Each needs nothing but a study; options are bound with :func:`functools.partial`.
RESOURCES: dict[str, Resource] = {
    "weight_bytes": weight_bytes,
    "bops": bops,
    "mac_bits": mac_bits,
    "kv_bytes": kv_bytes,
    "activation_bytes": activation_bytes,
    "latency_us": latency_us,
}
