"""Resources by name. To add one: write ``sensitivity/resources/<name>.py`` and list its function here."""

from allocator.contract.registry import Registry
from sensitivity.resources import activation_bytes, bops, kv_bytes, latency_us, mac_bits, weight_bytes
from sensitivity.resources.roofline import device_names, load_device
from sensitivity.resources.spent import Resource, Spent

__all__ = ["RESOURCES", "Resource", "Spent", "device_names", "load_device"]

#: What a plan can spend. Each needs nothing but a study; options are bound with :func:`functools.partial`.
RESOURCES = Registry[Resource](
    "resource",
    {
        "weight_bytes": weight_bytes.weight_bytes,
        "bops": bops.bops,
        "mac_bits": mac_bits.mac_bits,
        "kv_bytes": kv_bytes.kv_bytes,
        "activation_bytes": activation_bytes.activation_bytes,
        "latency_us": latency_us.latency_us,
    },
    pointer="/resources",
)
