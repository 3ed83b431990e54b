# %% [markdown]
# # Exploring Pareto fronts
#
# Everything here runs on the profile that the demo measured. Needs `pip install 'bitalloc[plot]' ipywidgets`; no torch.

# %%
# %matplotlib inline
from io import BytesIO
from pathlib import Path

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np

from bitalloc import (
    explain,
    frontier,
    load_profile,
    plan_after,
    plot_frontier,
    plot_fronts,
    plot_plan,
    solve,
    solve_many,
    steps_within,
)

profile = load_profile(Path("../examples/minilm.json"))
COST = "embedding_distance"

# %% [markdown]
# ## The whole front of one table
#
# The steps are all supported plans: each is the best that its own size buys. They come from one pass, in milliseconds.
# Exact plans between them are solved one by one. `uniform` gives every layer the same format, `greedy` upgrades whatever
# gains most per byte.

# %%
sizes = np.geomspace(6.4e6, 40e6, 12).round()
front = frontier(profile, points=[float(size) for size in sizes], objective=COST)
budgets = [{"weight_bytes": float(size)} for size in sizes]
others = {
    name: list(solve_many(profile, budgets, objective=COST, solver=name)) for name in ("uniform", "greedy")
}
plot_frontier(front, others).figure

# %% [markdown]
# How much worse the simple rules are at each size, and what the knee is:

# %%
for exact, uniform, greedy in zip(front.exact, others["uniform"], others["greedy"], strict=True):
    size = exact.usage["weight_bytes"].limit / 1e6
    print(
        f"{size:6.2f} MB  uniform × {uniform.objective / exact.objective:5.2f}  greedy × {greedy.objective / exact.objective:.4f}"
    )
f"the knee: {front.spend[front.knee] / 1e6:.2f} MB for {front.objective[front.knee]:.4f}"

# %% [markdown]
# ## Several tables on one picture
#
# Plans are made with each table and priced by the measured one. A table that is cheap to fill is as good as its line is
# close to that of the measured table. `hessian_trace` is refused by the picture's own evidence: its plans stay at the top.

# %%
plans = {name: list(solve_many(profile, budgets, objective=name)) for name in profile.costs}
plans["uniform"] = others["uniform"]
plot_fronts(profile, plans, COST).figure

# %% [markdown]
# ## Shadow prices: what the next megabyte buys
#
# The price of a budget is the gain per byte at the margin. It falls along the front: the first megabytes buy most.

# %%
figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
axes.step(front.spend[1:] / 1e6, front.price * 1e6, where="pre", color="#0072B2")
axes.set(yscale="log", xlabel="weight_bytes (MB)", ylabel=f"{COST} gained per further MB")
axes.grid(alpha=0.3)
plt.close(figure)
figure

# %% [markdown]
# Prices are per byte, but layers are whole. `explain` names the change that buys most, and the one that gives up least:

# %%
why = explain(profile, objective=COST, budgets={"weight_bytes": "10 MB"})
{"next upgrade": why.next_upgrade, "next downgrade": why.next_downgrade}

# %% [markdown]
# A budget that does not bind has price 0, and one of ten megabytes is worth its shadow price times whatever is added to it,
# as long as no step is passed:

# %%
ten, eleven = (
    solve(profile, objective=COST, budgets={"weight_bytes": amount}) for amount in ("10 MB", "11 MB")
)
print(
    f"promised per MB: {ten.usage['weight_bytes'].shadow_price * 1e6:.4f}; gained: {ten.objective - eleven.objective:.4f}"
)

# %% [markdown]
# ## Move the budget
#
# Every move of the slider is a new exact solve. Nothing is interpolated.

# %%
slider = widgets.FloatSlider(
    value=3.25, min=2.5, max=8.5, step=0.05, description="bits", continuous_update=True, readout_format=".2f"
)
strip = widgets.Image(format="png", width=900)
solved = []


def redraw(_=None):
    plan = solve(profile, objective=COST, budgets={"effective_bits": slider.value})
    solved.append((plan.usage["effective_bits"].limit, plan.solver.seconds))
    picture = BytesIO()
    figure = plot_plan(profile, plan).figure
    figure.savefig(picture, dpi=120)
    plt.close(figure)
    strip.value = picture.getvalue()


slider.observe(redraw, names="value")
redraw()
widgets.VBox([slider, strip])

# %% [markdown]
# The same moves by program: how long a solve takes.

# %%
for bits in (2.75, 3.5, 4.25, 6.0):
    slider.value = bits
print([f"{limit:g} bits: {1e3 * seconds:.1f} ms" for limit, seconds in solved])

# %% [markdown]
# Supported plans need no solve at all: the front holds them as a list of changes.

# %%
steps = steps_within(front, "10 MB")
assert plan_after(front, steps)[profile.layers[0].name] in profile.formats
assert [limit for limit, _ in solved] == [3.25, 2.75, 3.5, 4.25, 6.0]
assert all(
    exact.objective <= greedy.objective for exact, greedy in zip(front.exact, others["greedy"], strict=True)
)
f"{steps} of {front.price.size} changes fit into 10 MB"
