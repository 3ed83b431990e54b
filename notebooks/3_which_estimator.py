# %% [markdown]
# # Which estimator?
#
# All tables of one model side by side: do they agree in rank, which plans do they lead to, what are those plans worth when
# they are measured, what does each table cost to fill, and how much of a plan is noise?
#
# The model is a small convolutional network that is trained here in seconds, so that everything can be measured. Run this
# from a checkout: `benchmarks/` is not part of the package. Needs `pip install 'bitalloc[models,plot]' scikit-learn`.

# %%
# %matplotlib inline
import copy
import sys
import time
from functools import partial

import torch

from bitalloc import (
    ESTIMATORS,
    compare_tables,
    gauss_newton,
    kl,
    parse_format,
    plot_comparison,
    plot_fronts,
    plot_plans,
    plot_stability,
    profile_model,
    round_trip,
    solve,
    stability,
    total,
)

sys.path.insert(0, "..")
from benchmarks.models import digits_cnn
from benchmarks.models.trained import kl_divergence

torch.set_num_threads(1)
trained = digits_cnn.load()
FORMATS = ["int2", "int3", "int4", "int5", "int8"]

# %% [markdown]
# ## Fill every table
#
# Estimators that the model is not made for say so (`lim` needs blocks, for example). The cost is counted in
# forward-backward passes over the calibration set.

# %%
started = time.perf_counter()
for batch in trained.calibration:
    trained.loss(trained.model, batch).mean().backward()
trained.model.zero_grad(set_to_none=True)
one_pass_s = time.perf_counter() - started

wanted = {
    **ESTIMATORS,
    "gauss_newton": partial(gauss_newton, outputs=trained.logits),
    "kl": partial(kl, logits=trained.logits),
}
profiles, passes, refused = {}, {}, {}
for name, estimate in wanted.items():
    started = time.perf_counter()
    try:
        profiles[name] = profile_model(
            trained.model, trained.calibration, trained.loss, FORMATS, {name: estimate}, name=trained.name
        )
    except ValueError as error:
        refused[name] = str(error)
    else:
        passes[name] = (time.perf_counter() - started) / one_pass_s
costs = {name: table for profile in profiles.values() for name, table in profile.costs.items()}
profile = profiles["kl"].model_copy(update={"costs": costs})
print("\n".join(f"{name:15} {count:6.1f} forward-backward passes" for name, count in passes.items()))
refused

# %% [markdown]
# ## Rank agreement, and what planning with each table loses
#
# The reference is `kl`, measured one layer at a time. τ is Kendall's rank correlation over the layers: 1 is the same order.
# A table may disagree in rank and still lead to the same plan, or agree and lead to another: the markers say what counts.

# %%
BUDGETS = [{"effective_bits": bits} for bits in (2.5, 3, 4)]
comparison = compare_tables(profile, reference="kl", budgets=BUDGETS)
plot_comparison(comparison).figure

# %% [markdown]
# ## The plans they lead to

# %%
plans = {name: solve(profile, objective=name, budgets={"effective_bits": 3}) for name in profile.costs}
plot_plans(profile, plans).figure

# %% [markdown]
# ## Measured truth
#
# The tables add up single layers. Here whole plans are rounded and measured, on digits that nothing was tuned on. What a
# plan really costs is the last word on the table that made it.


# %%
def measured(plan) -> float:
    rounded = copy.deepcopy(trained.model)
    for layer, name in plan.assignment.items():
        weight = rounded.get_submodule(layer).weight
        weight.data = torch.from_numpy(round_trip(weight.detach().numpy(), parse_format(name)))
    with torch.inference_mode():
        moved = [
            kl_divergence(trained.logits(trained.model, batch), trained.logits(rounded, batch))
            for batch in trained.held_out
        ]
    return torch.cat(moved).mean().item()


truth = {name: measured(plan) for name, plan in plans.items()}
truth["uniform"] = measured(solve(profile, objective="kl", budgets={"effective_bits": 3}, solver="uniform"))
for name, nats in sorted(truth.items(), key=lambda item: item[1]):
    table = "" if name == "uniform" else f"  ({passes.get(name, float('nan')):.0f} passes)"
    print(f"{name:15} {nats:.4f} nats{table}")

# %%
series = {
    name: [solve(profile, objective=name, budgets=budget) for budget in BUDGETS] for name in profile.costs
}
plot_fronts(profile, series, "kl").figure

# %% [markdown]
# ## Stability under noise
#
# Tables that are averaged over samples know their standard errors. The plan is made again over tables drawn from them; the
# bars show which layers would change.

# %%
noisy = [name for name, table in profile.costs.items() if table.stderr is not None]
sure = {
    name: stability(profile, resamples=100, objective=name, budgets={"effective_bits": 3}) for name in noisy
}
print(
    {name: f"{found.kept:.0%} of the plans stay, regret {found.regret:.3g}" for name, found in sure.items()}
)
plot_stability(sure["kl"]).figure

# %%
by_kl = {name: total(profile, "kl", plan.assignment) for name, plan in plans.items()}
assert all(by_kl["kl"] <= value for value in by_kl.values())
assert truth["kl"] < truth["uniform"]
assert len(profile.costs) >= 7
