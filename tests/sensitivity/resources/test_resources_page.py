"""docs/resources.md is true: it names what exists, and its examples run."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from quantize import parse_format
from sensitivity import measured
from sensitivity.resources import RESOURCES, device_names, latency_table, load_device
from sensitivity.resources.latency import RowWork, Timing
from sensitivity.rows import KINDS
from sensitivity.rows.units import UNITS
from tests.sensitivity.decoders import TOKENS, llama, logits_of, next_token_loss
from tests.sensitivity.profiling.test_assembly import gap

PAGE = (Path(__file__).parents[3] / "docs" / "resources.md").read_text("utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    return found


def first_cells(heading: str) -> list[str]:
    """What stands in backticks at the beginning of the lines of the first table under a heading."""
    section = PAGE.partition(f"\n{heading}\n")[2].partition("\n|---")[2].partition("\n\n")[0]
    return re.findall(r"^\| `([a-z0-9_-]+)`", section, flags=re.MULTILINE)


def test_tables_name_all_that_exists_and_nothing_else() -> None:
    assert first_cells("## Rows") == list(KINDS)
    assert first_cells("## Units") == list(UNITS)
    assert first_cells("## Resources") == list(RESOURCES)
    devices = re.findall(r"^\| `([a-z0-9-]+)` \| ([0-9.]+) \| ([0-9.]+) \|$", PAGE, flags=re.MULTILINE)
    assert sorted(name for name, _, _ in devices) == device_names()
    for name, bandwidth, peak in devices:
        device = load_device(name)
        assert (device.bandwidth_gb_per_s, device.peak_tera_ops["fp16"]) == (float(bandwidth), float(peak))


def test_the_example_runs() -> None:
    kl = partial(measured, name="kl", outputs=logits_of, distance=gap, meaning="squared distance")
    model = llama(head_dim=32, hidden_size=64)
    names = {"model": model, "batches": [TOKENS], "loss_fn": next_token_loss, "kl": kl}
    exec(block("python").replace('["int4-g32"', '["int4-g16"'), names)
    assert list(names["profile"].resources) == ["weight_bytes", "kv_bytes", "decode_us"]


def test_the_description_and_the_table_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(block("toml"))
    assert load_device(tmp_path / "mine.toml").name == "my board"
    (tmp_path / "mine.csv").write_text(block("csv"))
    work = RowWork("model.layers.0.mlp.down_proj", (8, 8), ())
    answer = latency_table([work], [parse_format("int4-g64")], path=tmp_path / "mine.csv")
    assert answer.entries == ((Timing(41.0, 0.8),),)
    assert answer.constant_us == 120.0
