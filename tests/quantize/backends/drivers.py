"""How the contract suite drives each backend: what it is given, and how what it made is read by others' code."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from quantize import StorageFormat, apply
from quantize.backends.onnxruntime.export import LAYERS_KEY
from tests.quantize.models import TOKENS, Tokens, outputs, tiny_llama
from tests.quantize.onnx_reading import initializers, plain_weight, quantized_nodes


class Backend(ABC):
    """How the suite drives a backend."""

    #: A format that the backend lacks.
    unsupported: str
    #: Largest error of an output next to the dequantized model, relative to the largest output.
    tolerance: float
    #: Three layers: an embedding and two matrices.
    layers: tuple[str, str, str] = ("embed", "up", "down")
    #: Formats from the coarsest to the finest, and the share of the largest output that each may be off.
    widths: tuple[tuple[str, float], ...] = (("int2-g32", 2.1), ("int4-g32", 0.5), ("int8-g32", 0.05))
    mixed: tuple[tuple[str, ...], ...]
    model: nn.Module
    #: What it writes, where it writes.
    path: Path | None = None

    @abstractmethod
    def apply(self, plan: dict[str, str], **options: Any) -> None: ...

    @abstractmethod
    def run(self) -> np.ndarray: ...

    @abstractmethod
    def weight(self, layer: str) -> np.ndarray: ...

    @abstractmethod
    def original(self) -> bytes: ...

    @abstractmethod
    def stored_bytes(self, layer: str) -> int:
        """Bytes of what was made of a weight."""

    def beyond_the_format(self, shape: tuple[int, ...], fmt: StorageFormat) -> int:
        """Bytes that a backend is known to store beyond those of the format."""
        del shape, fmt
        return 0

    def nothing_was_made(self) -> bool:
        assert self.path is not None
        return not self.path.parent.exists() or os.listdir(self.path.parent) == []

    def plans(self) -> list[dict[str, str]]:
        return [dict(zip(self.layers, names, strict=False)) for names in self.mixed] + [
            {self.layers[1]: self.mixed[0][1]}
        ]

    def original_weight(self, layer: str) -> np.ndarray:
        return self.model.get_submodule(layer).weight.detach().numpy()


class TorchAo(Backend):
    unsupported = "uint4-g16"
    tolerance = 1e-5
    mixed = (
        ("int4-g16", "int4-g32", "int4-g64"),
        ("int2-g16", "int8-g16", "int4-g16"),
        ("fp16", "int4-g16", "fp32"),
        ("int8", "int5-g16", "int3-g32"),
    )

    def __init__(self) -> None:
        self.model = Tokens().eval()
        self.changed: nn.Module | None = None

    def apply(self, plan: dict[str, str], **options: Any) -> None:
        self.changed = apply(self.model, plan, "torchao", **options)

    def run(self) -> np.ndarray:
        assert self.changed is not None
        return outputs(self.changed)

    def weight(self, layer: str) -> np.ndarray:
        assert self.changed is not None
        weight = self.changed.get_submodule(layer).weight.detach()
        return (weight if type(weight) is torch.Tensor else weight.dequantize()).numpy()

    def original(self) -> bytes:
        parts = [(name, value.numpy().tobytes()) for name, value in self.model.state_dict().items()]
        kinds = [
            (name, type(module), type(getattr(module, "weight", None)))
            for name, module in self.model.named_modules()
        ]
        return repr(
            (parts, kinds, [parameter.requires_grad for parameter in self.model.parameters()])
        ).encode()

    def stored_bytes(self, layer: str) -> int:
        assert self.changed is not None
        weight = self.changed.get_submodule(layer).weight
        if type(weight) is nn.Parameter:
            return weight.nbytes
        return sum(getattr(weight, name).nbytes for name in weight.tensor_data_names)

    def beyond_the_format(self, shape: tuple[int, ...], fmt: StorageFormat) -> int:
        # On a CPU torchao keeps one byte per code, a zero point per scale, and narrow floats in single precision.
        if fmt.plain:
            return shape[0] * shape[1] * (32 - fmt.bits) // 8
        codes = shape[0] * shape[1] * (8 - fmt.bits) // 8
        return codes + shape[0] * fmt.groups(shape[1])[0]

    def nothing_was_made(self) -> bool:
        return self.changed is None


class OnnxRuntime(Backend):
    unsupported = "int3-g16"
    # ONNX Runtime computes with 8-bit activations; see test_onnxruntime.close.
    tolerance = 0.02
    mixed = (
        ("int8-g32", "int8-g32", "int8-g32"),
        ("int4-g16", "int4-g32", "int4-g64"),
        ("int2-g16", "int8-g16", "int4-g16"),
        ("fp16", "int4-g16", "fp32"),
    )

    def __init__(self, source: Path, folder: Path) -> None:
        self.source = source
        self.model = Tokens().eval()
        self.path = folder / "out" / "quantized.onnx"

    def apply(self, plan: dict[str, str], **options: Any) -> None:
        apply(self.source, plan, "onnxruntime", path=self.path, **options)

    def run(self) -> np.ndarray:
        assert self.path is not None
        session = onnxruntime.InferenceSession(os.fspath(self.path), providers=["CPUExecutionProvider"])
        return session.run(None, {"tokens": TOKENS})[0]

    def weight(self, layer: str) -> np.ndarray:
        assert self.path is not None
        for node, stored in quantized_nodes(self.path):
            if node.name == self._node(layer):
                return stored.dequantize()
        return plain_weight(self.path, self._node(layer))

    def original(self) -> bytes:
        return self.source.read_bytes()

    def stored_bytes(self, layer: str) -> int:
        graph = onnx.load(self.path)
        arrays = initializers(graph)
        (node,) = (item for item in graph.graph.node if item.name == self._node(layer))
        widened = {item.output[0]: item.input[0] for item in graph.graph.node if item.op_type == "Cast"}
        names = {widened.get(name, name) for name in node.input}
        return sum(arrays[name].nbytes for name in names if name in arrays and "bias" not in name)

    def _node(self, layer: str) -> str:
        (entry,) = (item for item in onnx.load(self.path).metadata_props if item.key == LAYERS_KEY)
        (name,) = json.loads(entry.value)[layer]
        return str(name)


class Checkpoint(Backend):
    """A backend that goes from a folder to a file or a folder; outputs are those of the model with what it holds."""

    tolerance = 1e-6

    def __init__(self, folder: Path) -> None:
        self.source = folder / "in"
        self.source.mkdir()

    def original(self) -> bytes:
        return b"".join(file.name.encode() + file.read_bytes() for file in sorted(self.source.iterdir()))

    def run(self) -> np.ndarray:
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        with torch.no_grad():
            for name in self.names():
                self.model.get_submodule(name).weight.copy_(torch.from_numpy(self.weight(name)))
        result = outputs(self.model)
        self.model.load_state_dict(before)
        return result

    def names(self) -> list[str]:
        return [
            name for name, module in self.model.named_modules() if getattr(module, "weight", None) is not None
        ]


class CompressedTensors(Checkpoint):
    """Read by the compressed-tensors package."""

    unsupported = "int4-g48"
    mixed = (
        ("int4-g16", "int3-g32", "int2-g16"),
        ("uint4-g16", "int8", "uint2-g32"),
        ("int7-g32", "uint5", "int6-g64"),
        ("fp16", "bf16", "fp32"),
        ("fp8-e4m3", "mxfp8", "mxfp4"),
        ("mxfp4", "int8-dynamic", "fp8-e4m3"),
    )

    def __init__(self, folder: Path) -> None:
        from safetensors.torch import save_file

        super().__init__(folder)
        self.model = Tokens().eval()
        save_file(self.model.state_dict(), self.source / "model.safetensors", metadata={"format": "pt"})
        (self.source / "config.json").write_text('{"model_type": "tokens"}')
        (self.source / "tokenizer.json").write_text("{}")
        self.path = folder / "out" / "packed"

    def apply(self, plan: dict[str, str], **options: Any) -> None:
        apply(self.source, plan, "compressed-tensors", path=self.path, **options)

    def _tensors(self) -> dict[str, torch.Tensor]:
        from safetensors.torch import load_file

        assert self.path is not None
        return load_file(self.path / "model.safetensors")

    def weight(self, layer: str) -> np.ndarray:
        from compressed_tensors.compressors import BaseCompressor
        from compressed_tensors.quantization import QuantizationConfig
        from compressed_tensors.utils.match import match_name

        assert self.path is not None
        own = {
            key.removeprefix(f"{layer}."): value
            for key, value in self._tensors().items()
            if key.startswith(f"{layer}.")
        }
        if "weight_scale" not in own:
            return own["weight"].float().numpy()
        config = QuantizationConfig.model_validate(
            json.loads((self.path / "config.json").read_text())["quantization_config"]
        )
        (scheme,) = (
            group
            for group in config.config_groups.values()
            if any(match_name(layer, fmt) for fmt in group.targets)
        )
        # The package multiplies in the precision of the scale, where what it is given in half precision would round.
        if own["weight_scale"].is_floating_point():
            own["weight_scale"] = own["weight_scale"].float()
        read = BaseCompressor.get_value_from_registry(scheme.format)
        return read.decompress(own, scheme)["weight"].float().numpy()

    def stored_bytes(self, layer: str) -> int:
        kinds = ("weight", "weight_packed", "weight_scale", "weight_zero_point", "weight_shape")
        tensors = self._tensors()
        return sum(tensors[f"{layer}.{kind}"].nbytes for kind in kinds if f"{layer}.{kind}" in tensors)

    def beyond_the_format(self, shape: tuple[int, ...], fmt: StorageFormat) -> int:
        # The shape as two 64-bit numbers; rows, and zero points down each column, end on 32-bit words.
        if fmt.floating or fmt.activation_bits < 16:
            return 0
        rows, row = shape
        groups, size = fmt.groups(row)
        codes = rows * (-(-row * fmt.bits // 32) * 4 - groups * -(-size * fmt.bits // 8))
        if fmt.symmetric:
            return 16 + codes
        return 16 + codes + groups * -(-rows * fmt.bits // 32) * 4 - rows * -(-groups * fmt.bits // 8)


class Gguf(Checkpoint):
    """Read by the gguf package."""

    unsupported = "int3-g32"
    layers = ("model.embed_tokens", "model.layers.0.mlp.up_proj", "model.layers.1.self_attn.q_proj")
    widths = (("int4-g32", 1.0), ("int8-g32", 0.06), ("fp16", 0.005))
    mixed = (
        ("int8-g32", "int4-g32", "int5-g32"),
        ("int4-g32", "int5-g32", "int8-g32"),
        ("mxfp4", "int8-g32", "mxfp4"),
        ("fp16", "bf16", "fp32"),
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.model = tiny_llama()
        self.model.save_pretrained(self.source)
        self.path = folder / "out" / "model.gguf"

    def apply(self, plan: dict[str, str], **options: Any) -> None:
        apply(self.source, plan, "gguf", path=self.path, **options)

    def _tensor(self, layer: str) -> Any:
        import gguf

        own = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2).get_name(layer)
        (found,) = (item for item in gguf.GGUFReader(self.path).tensors if item.name == f"{own}.weight")
        return found

    def weight(self, layer: str) -> np.ndarray:
        import gguf

        tensor = self._tensor(layer)
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        heads = {"q_proj": 4, "k_proj": 2}.get(layer.rpartition(".")[2])
        if heads is None:
            return values
        return values.reshape(heads, -1, 2, values.shape[1]).swapaxes(1, 2).reshape(values.shape)

    def stored_bytes(self, layer: str) -> int:
        return int(self._tensor(layer).n_bytes)
