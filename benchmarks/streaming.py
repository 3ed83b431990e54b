"""Peak memory of profiling a checkpoint of 3 GB block by block: ``python -m benchmarks.streaming``.

Writes a Llama of 1.5 billion random weights (the layers of TinyLlama-1.1B, 31 of them instead of 22) to ``.cache/``,
profiles it in a process of its own, and compares that process's peak with one that only imports torch and transformers.
The checkpoint is deleted afterwards unless ``--keep`` is given.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.children import PYTHON, environment

BAR_BYTES = 2**30
SIZES = {
    "vocab_size": 32000,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 31,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
FORMATS = ("int4-g64", "int8-g64")
BATCHES, TOKENS = 4, 128
_BLOCKS_PER_SHARD = 6
_GIB = 2**30


def write_checkpoint(
    folder: Path, sizes: dict[str, object] = SIZES, blocks_per_shard: int = _BLOCKS_PER_SHARD
) -> int:
    """Write random bfloat16 weights of a Llama, with one shard in memory at a time.

    Args:
        folder: Where to.
        sizes: Fields of config.json.
        blocks_per_shard: How many blocks share a file.

    Returns:
        Bytes of the weights.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**sizes)
    config.architectures = ["LlamaForCausalLM"]
    with torch.device("meta"):
        skeleton = LlamaForCausalLM(config)
    shards: dict[int, dict[str, tuple[int, ...]]] = {}
    for name, value in skeleton.named_parameters():
        block = int(name.split(".")[2]) // blocks_per_shard if ".layers." in name else -1
        shards.setdefault(block, {})[name] = tuple(value.shape)
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    placed, total = {}, 0
    for number, shapes in enumerate(shards.values(), start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {}
        for name, shape in shapes.items():
            random = torch.randn(shape, generator=generator).mul_(0.02)
            tensors[name] = (random.add_(1) if "norm" in name else random).to(torch.bfloat16)
            placed[name] = file
            total += 2 * tensors[name].numel()
        save_file(tensors, folder / file, metadata={"format": "pt"})
    config.save_pretrained(folder)
    index = {"metadata": {"total_size": total}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def _peak_bytes() -> int:
    # The most memory that this process had resident, from the kernel.
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")
    )
    return int(line.split()[1]) * 1024


def _measure(folder: Path, spill: Path | None, threads: int) -> None:
    # Runs in a process of its own and prints JSON.
    import torch

    from sensitivity.checkpoints.streaming import profile_checkpoint

    torch.set_num_threads(threads)
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randint(0, vocabulary, (1, TOKENS), generator=generator) for _ in range(BATCHES)]
    started = time.perf_counter()

    def report(_: str, done: int, total: int) -> None:
        seconds = time.perf_counter() - started
        print(
            f"  {done}/{total} {seconds:.0f} s, {_peak_bytes() / _GIB:.2f} GiB", file=sys.stderr, flush=True
        )

    profile = profile_checkpoint(folder, batches, FORMATS, spill=spill, progress=report)
    result = {
        "peak_bytes": _peak_bytes(),
        "seconds": time.perf_counter() - started,
        "rows": len(profile.layers),
        "tables": list(profile.costs),
        "sha256": profile.digest(),
    }
    print(json.dumps(result))


def _baseline_bytes() -> int:
    # Peak memory of a process that only imports torch and transformers.
    code = "import torch, transformers; from benchmarks.streaming import _peak_bytes; print(_peak_bytes())"
    return int(
        subprocess.run([*PYTHON, "-c", code], env=environment(), check=True, capture_output=True).stdout
    )


def main(
    folder: Annotated[Path, typer.Option(help="Where the checkpoint is written.")] = Path(".cache/streaming"),
    keep: Annotated[bool, typer.Option(help="Do not delete the checkpoint.")] = False,
    spill: Annotated[Path | None, typer.Option(help="Keep hidden states in this folder.")] = None,
    threads: Annotated[int, typer.Option(help="Threads of torch.", min=1)] = 2,
    measure: Annotated[bool, typer.Option("--measure", hidden=True)] = False,
) -> None:
    """Write, measure, compare with the bar, delete."""
    if measure:
        _measure(folder, spill, threads)
        return
    try:
        total = write_checkpoint(folder)
        print(
            f"checkpoint: {total / 1e9:.2f} GB in {len(list(folder.glob('*.safetensors')))} shards",
            flush=True,
        )
        command = [*PYTHON, "-m", "benchmarks.streaming", "--measure"]
        command += ["--folder", str(folder), "--threads", str(threads)]
        command += ["--spill", str(spill)] if spill else []
        done = subprocess.run(command, env=environment(), check=True, stdout=subprocess.PIPE)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    result, base = json.loads(done.stdout), _baseline_bytes()
    beyond = result["peak_bytes"] - base
    print(f"tables: {', '.join(result['tables'])}; {result['rows']} rows × {', '.join(FORMATS)}")
    print(
        f"calibration: {BATCHES} batches of {TOKENS} tokens; {result['seconds']:.0f} s on {threads} threads"
    )
    print(
        f"peak resident: {result['peak_bytes'] / _GIB:.3f} GiB; torch and transformers alone: {base / _GIB:.3f} GiB"
    )
    verdict = "met" if beyond < BAR_BYTES else "MISSED"
    print(f"beyond them: {beyond / _GIB:.3f} GiB; the bar of {BAR_BYTES / _GIB:.0f} GiB is {verdict}")
    sys.exit(beyond >= BAR_BYTES)


if __name__ == "__main__":
    typer.run(main)
