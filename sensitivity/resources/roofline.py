r"""Latency from a description of a device: the slower of computing and moving, and a launch.

.. math:: t = \max\Big(\frac{2 \cdot \mathrm{MACs}}{\text{peak}}, \frac{\text{bytes}_f + \text{bytes of activations}}
          {\text{bandwidth}}\Big) + t_{\text{launch}}

bytes_f are the exact stored bytes of what is read in the format (weight, rows of a lookup, keys and values). A format
that narrows weights only is computed in the device's ``weight_only`` precision, a floating-point format in its own.
The result is a lower bound for kernels that reach neither peak; use it to compare formats, not to promise a figure.

Source: S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer, unknown
from quantize import StorageFormat
from sensitivity.forward.forward_pass import Call
from sensitivity.resources.latency import Latencies, RowWork, Timing

_FIGURES = ("bandwidth_gb_per_s", "launch_us", "peak_tera_ops")
_BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5}


@dataclass(frozen=True)
class Device:
    """A description of a device.

    Attributes:
        name: For people.
        bandwidth_gb_per_s: Memory bandwidth in 10⁹ bytes per second.
        launch_us: Cost of starting one kernel.
        weight_only: Precision that formats which narrow weights only are computed in.
        peak_tera_ops: Precision to 10¹² operations per second, a multiply-accumulate counted as two.
        sources: Figure to where it is from.
    """

    name: str
    bandwidth_gb_per_s: float
    launch_us: float
    weight_only: str
    peak_tera_ops: Mapping[str, float]
    sources: Mapping[str, str]


def roofline(
    works: Sequence[RowWork],
    formats: Sequence[StorageFormat],
    *,
    device: str | Path | Device,
    inputs: str | None = None,
) -> Latencies:
    """Compute latencies for a device that need not be here.

    Args:
        device: Name of a shipped description, path of one, or a description.
        inputs: Precision that integer formats compute in where inputs are narrowed as well (``int8``); the device's
            ``weight_only`` precision when absent.

    Returns:
        One figure per row and format; a reason where the device does not compute in a precision.

    Raises:
        InvalidInputError: The device is unknown or its description is wrong, or it has no peak for ``inputs``.
    """
    found = device if isinstance(device, Device) else load_device(device)
    if inputs is not None and inputs not in found.peak_tera_ops:
        detail = unknown(inputs, found.peak_tera_ops, f"precision of {found.name}")
        raise InvalidInputError(Fault("/resources/latency_us/inputs", detail))
    entries = tuple(tuple(_entry(work, fmt, found, inputs) for fmt in formats) for work in works)
    return Latencies(entries, 0.0, f"roofline of {found.name}, not measured")


def device_names() -> list[str]:
    """List the descriptions that are shipped.

    Returns:
        Names for :func:`load_device`.

    Example:
        >>> device_names()[:2]
        ['nvidia-a100-sxm-80gb', 'nvidia-h100-sxm']
    """
    folder = files("sensitivity.resources") / "devices"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def load_device(device: str | Path) -> Device:
    """Read a description.

    Args:
        device: Name of a shipped description, or the path of a TOML file.

    Returns:
        The description.

    Raises:
        InvalidInputError: There is no such description, or a field is missing, unknown, negative or without source.

    Example:
        >>> load_device("nvidia-t4").bandwidth_gb_per_s
        320.0
    """
    if isinstance(device, str) and device not in device_names():
        detail = unknown(device, device_names(), "device") + "; a description of your own is given as a Path"
        raise InvalidInputError(Fault("/resources/latency_us/device", detail))
    place = (
        device if isinstance(device, Path) else files("sensitivity.resources") / "devices" / f"{device}.toml"
    )
    try:
        described = tomllib.loads(place.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        detail = f"cannot read the description {str(device)!r}: {error}"
        raise InvalidInputError(Fault("/resources/latency_us/device", detail)) from error
    faults = _faults(described)
    if faults:
        raise InvalidInputError(*faults)
    peaks = {name: float(peak) for name, peak in described["peak_tera_ops"].items()}
    bandwidth, launch = float(described["bandwidth_gb_per_s"]), float(described["launch_us"])
    return Device(described["name"], bandwidth, launch, described["weight_only"], peaks, described["sources"])


def _entry(work: RowWork, fmt: StorageFormat, device: Device, inputs: str | None) -> Timing | str:
    precision = fmt.name if fmt.floating else inputs or device.weight_only
    if precision not in device.peak_tera_ops:
        return f"{device.name} has no peak for {precision}"
    return Timing(sum(_call_us(call, fmt, device, precision) for call in work.calls))


def _call_us(call: Call, fmt: StorageFormat, device: Device, precision: str) -> float:
    moved = call.moved * _BYTES[precision] + sum(fmt.stored_bytes(shape) for shape in call.reads)
    computing_us = 2 * call.macs / (device.peak_tera_ops[precision] * 1e6)
    moving_us = moved / (device.bandwidth_gb_per_s * 1e3)
    return max(computing_us, moving_us) + device.launch_us


def _faults(described: Mapping[str, Any]) -> list[Fault]:
    fields = set(Device.__annotations__)
    faults = [Fault(f"/{name}", unknown(name, fields, "field")) for name in sorted(described.keys() - fields)]
    faults += [
        Fault(f"/{name}", "is missing from the description") for name in sorted(fields - described.keys())
    ]
    if faults:
        return faults
    peaks = described["peak_tera_ops"]
    if not isinstance(peaks, Mapping) or not peaks:
        return [Fault("/peak_tera_ops", "expected a table of precisions and peaks")]
    faults += [
        Fault(pointer(("peak_tera_ops", name)), unknown(name, _BYTES, "precision"))
        for name in peaks
        if name not in _BYTES
    ]
    figures: dict[tuple[str, ...], object] = {(name,): described[name] for name in _FIGURES[:2]}
    figures |= {("peak_tera_ops", name): peak for name, peak in peaks.items()}
    for where, figure in figures.items():
        free = where == ("launch_us",)
        if not _is_figure(figure, at_least_zero=free):
            wanted = "a number of at least 0" if free else "a number above 0"
            faults.append(Fault(pointer(where), f"expected {wanted}, got {figure!r}"))
    if described["weight_only"] not in peaks:
        faults.append(Fault("/weight_only", unknown(str(described["weight_only"]), peaks, "precision")))
    sources = described["sources"] if isinstance(described["sources"], Mapping) else {}
    faults += [
        Fault(pointer(("sources", name)), "say where this figure is from")
        for name in _FIGURES
        if not sources.get(name)
    ]
    return faults


def _is_figure(value: object, *, at_least_zero: bool) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        return False
    return value > 0 or (at_least_zero and value == 0)
