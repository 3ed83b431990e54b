# %% [markdown]
# # Talking to the service
#
# The same plans over HTTP: for a team that shares profiles, or a program in another language. Needs
# `pip install 'bitalloc[service,plot]'`; the service and the client work without torch.

# %%
# %matplotlib inline
from pathlib import Path

from allocator import InvalidInputError, load_profile, solve
from api.client import Client
from api.plots import plot_fronts, plot_plan
from api.server import running_server

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

# %%
sizes = [f"{megabytes} MB" for megabytes in (7, 8, 9, 10, 12, 15, 20)]
plans = [client.allocate(profile, objective=COST, budgets={"weight_bytes": size}) for size in sizes]
plot_fronts(profile, {"bitalloc": plans}, COST).figure

# %%
assert [answer.status for answer in plans] == ["optimal"] * len(sizes)
assert impossible.status == "infeasible"
client.close()
server.__exit__(None, None, None)
