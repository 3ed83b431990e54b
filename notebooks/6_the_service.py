# %% [markdown]
# # Talking to the service
#
# The same plans over HTTP: for a team that shares profiles, or a program in another language. Needs
# `pip install 'bitalloc[service,plot]'`; the service and the client work without torch.

# %%
# %matplotlib inline
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from bitalloc import Client, InvalidInputError, load_profile, plot_fronts, plot_plan, running_server, solve

profile = load_profile(Path("../examples/minilm.json"))
COST = "embedding_distance"

# %% [markdown]
# A service of this notebook's own, on a free port. For a team: `bitalloc serve --host 0.0.0.0` somewhere, and its address
# here.

# %%
server = running_server()
client = Client(server.__enter__())

# %% [markdown]
# ## One plan
#
# The answer is the object that the library gives, proof included. It is the same plan, bit for bit.

# %%
plan = client.allocate(profile, objective=COST, budgets={"weight_bytes": "10 MB"})
here = solve(profile, objective=COST, budgets={"weight_bytes": "10 MB"})
assert plan.assignment == here.assignment
assert plan.objective == here.objective
plot_plan(profile, plan).figure

# %% [markdown]
# ## Errors say where
#
# They come back as the exceptions of the library, with pointers into what was sent.

# %%
try:
    client.allocate(profile, objective="perplexity", budgets={"weight_bytes": "ten megabytes"})
except InvalidInputError as error:
    print(error)

# %% [markdown]
# A request that no plan can meet is an answer, not an error: it says what each budget would have to be.

# %%
impossible = client.allocate(profile, objective=COST, budgets={"weight_bytes": "5 MB"})
print(impossible.status, impossible.achievable)

# %% [markdown]
# ## A batch of budgets
#
# One call: the profile is compiled once, and only sent if the service does not have it yet.

# %%
budgets = [{"weight_bytes": f"{megabytes} MB"} for megabytes in (7, 8, 9, 10, 12, 15, 20)]
plans = client.allocate_batch(profile, budgets, objective=COST)
plot_fronts(profile, {"bitalloc": plans}, COST).figure

# %% [markdown]
# ## Jobs with live incumbents
#
# A hard question: 400 layers whose four resources have little to do with each other. As a job it needs no open connection,
# and it tells how far it is: the best plan so far, and the bound that no plan can beat. What the two have between them is
# all that is left to find. The stream goes on where it was, should the connection be lost.

# %%
rng = np.random.default_rng(0)
bits = np.array([2.0, 3, 4, 5, 6, 8])
noise = rng.lognormal(sigma=0.3, size=(400, 6))
spends = [
    (rng.integers(1000, 9000, (400, 1)) * bits * rng.uniform(0.6, 1.4, (400, 6))).round() for _ in range(4)
]
hard = {
    "formats": {f"int{width:g}": {"weight_bits": width} for width in bits},
    "layers": [{"name": f"layer.{index}"} for index in range(400)],
    "costs": {"kl": {"values": (rng.lognormal(sigma=1.5, size=(400, 1)) * 4.0**-bits * noise).tolist()}},
    "resources": {f"resource {index}": {"values": table.tolist()} for index, table in enumerate(spends)},
}
limits = {f"resource {index}": 0.5 * float(table.max(axis=1).sum()) for index, table in enumerate(spends)}
job = client.submit(hard, budgets=limits, time_limit_s=6)
seen = []
for event in client.events(job.id):
    if event.progress is not None:
        seen.append(event.progress)
        print(
            f"{event.progress.seconds:5.1f} s  {event.progress.objective:.6f}  gap {event.progress.gap:.2e}"
        )
    if event.ended is not None:
        ended = event.ended
ended.state

# %%
figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
clock = [news.seconds for news in seen]
axes.step(
    clock, [news.objective for news in seen], "o-", where="post", color="#0072B2", label="best plan so far"
)
axes.step(clock, [news.bound for news in seen], "s:", where="post", color="#D55E00", label="bound")
axes.set(xlabel="time (s)", ylabel="kl (lower is better)")
axes.legend()
plt.close(figure)
figure

# %% [markdown]
# A job that is no longer wanted is cancelled, and its solver killed.

# %%
unwanted = client.submit(hard, budgets=limits, time_limit_s=30)
print(client.cancel(unwanted.id).state)

# %%
assert [answer.status for answer in plans] == ["optimal"] * len(budgets)
assert impossible.status == "infeasible"
assert ended.state == "succeeded"
assert seen[-1].bound <= seen[-1].objective
client.close()
server.__exit__(None, None, None)
