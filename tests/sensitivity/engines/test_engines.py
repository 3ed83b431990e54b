"""One contract for every engine: the same bits anywhere, and a lost worker costs time, not the run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from allocator import InvalidInputError, MissingPackageError, Profile
from sensitivity.engines.dispatch import Site, WorkerLostError
from sensitivity.engines.recipe import Recipe
from sensitivity.profiling.profile_recipe import profile_recipe
from tests.sensitivity.recipes import BLOCKS, desks, refusing, unsendable, where
from tests.sensitivity.resumed import BATCHES, FORMATS, run, shift

Profiled = Callable[..., Profile]


@pytest.fixture(
    scope="module", params=["serial", "process", "dask", pytest.param("ray", marks=pytest.mark.long)]
)
def site(request: pytest.FixtureRequest) -> Iterator[str]:
    """An executor's name; a cluster of two workers runs for all tests of the module."""
    name: str = request.param
    if name == "dask":
        distributed = pytest.importorskip("distributed")
        sizes = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
        with distributed.LocalCluster(**sizes) as cluster, distributed.Client(cluster):
            yield name
    elif name == "ray":
        ray = pytest.importorskip("ray")
        ray.init(num_cpus=2, resources={"desk": 1}, include_dashboard=False, log_to_driver=False)
        yield name
        ray.shutdown()
    else:
        yield name


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Two processes, started once; that they serve every test also shows that an executor of one's own is left open."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


@pytest.fixture
def profiled(site: str, pool: ProcessPoolExecutor) -> Profiled:
    executor = pool if site == "process" else site
    return partial(profile_recipe, BLOCKS, FORMATS, executor=executor, workers=2)


def test_any_engine_gives_the_bits_of_a_plain_run(profiled: Profiled) -> None:
    twice = partial(shift, name="twice", batches=BATCHES[:1] * 2)
    profile = profiled({"shift": shift, "twice": twice})
    assert profile.model_dump_json() == run().model_dump_json()


def test_work_is_spread_with_the_recipes_threads_and_progress_is_told(
    site: str, profiled: Profiled, tmp_path: Path
) -> None:
    told: list[tuple[str, int, int]] = []
    profiled({"where": partial(where, folder=tmp_path)}, progress=lambda *step: told.append(step))
    assert told == [("where", done, 20) for done in range(1, 21)]
    notes = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert len(notes) == 20
    assert {note[1] for note in notes} == {"1"}
    processes = {int(note[0]) for note in notes}
    assert len(processes) == 1 if site == "serial" else os.getpid() not in processes


def test_what_a_piece_refuses_is_what_is_raised(profiled: Profiled) -> None:
    with pytest.raises(InvalidInputError, match=r"^/piece: stem of 5 layers cannot be computed$") as refusal:
        profiled({"refusing": refusing})
    assert refusal.value.faults[0].pointer == "/piece"


def test_killing_a_worker_in_the_middle_changes_nothing(site: str, tmp_path: Path) -> None:
    if site == "serial":  # there is no worker to kill
        return
    deadly = ("blocks.1.0", "int4-g4")
    estimator = {"where": partial(where, folder=tmp_path, deadly=deadly)}
    profile = profile_recipe(BLOCKS, FORMATS, estimator, executor=site, workers=2)
    (tmp_path / "calm").mkdir()
    calm = profile_recipe(BLOCKS, FORMATS, {"where": partial(where, folder=tmp_path / "calm")})
    assert (tmp_path / "killed").exists()
    assert profile.model_dump_json() == calm.model_dump_json()
    notes = [line.split(maxsplit=2)[2] for line in (tmp_path / "log").read_text().splitlines()]
    assert notes.count(" ".join(deadly)) == 2
    assert len(notes) <= 20 + 2 * 2  # at most what was in flight is computed again


def test_a_journal_remembers_what_workers_computed(profiled: Profiled, tmp_path: Path) -> None:
    estimator = {"where": partial(where, folder=tmp_path)}
    first = profiled(estimator, journal=tmp_path / "run.journal")
    assert profiled(estimator, journal=tmp_path / "run.journal") == first
    assert (tmp_path / "log").read_text().count("\n") == 20


def test_pieces_on_ray_can_ask_for_resources(site: str) -> None:
    if site != "ray":  # the others have none
        return
    from sensitivity.engines.ray import opened

    seated = partial(opened, resources={"desk": 0.5})
    profile = profile_recipe(BLOCKS, FORMATS[:1], {"desks": desks}, executor=seated, workers=2)
    assert profile.costs["desks"].values == ((0.5,),) * 5


# Refusals


@pytest.mark.long
def test_a_piece_that_always_takes_its_worker_down_is_named(tmp_path: Path) -> None:
    estimator = {"where": partial(where, folder=tmp_path, deadly=("stem", "uint3"), always=True)}
    message = (
        r"^stage 'where', piece stem, uint3: a worker died 2 times while computing it; is there enough memory"
    )
    with pytest.raises(WorkerLostError, match=message):
        profile_recipe(BLOCKS, FORMATS, estimator, executor="process", workers=2, retries=1)


def test_a_function_that_opens_an_executor_is_asked_for_the_workers() -> None:
    asked: list[int] = []

    @contextmanager
    def opened(workers: int) -> Iterator[Site]:
        asked.append(workers)
        with ThreadPoolExecutor(workers) as executor:
            yield Site(executor)

    profile = profile_recipe(BLOCKS, FORMATS, {"shift": shift}, executor=opened, workers=3)
    assert asked == [3]
    assert profile.costs["shift"] == run().costs["shift"]


def test_threads_of_one_process_take_turns_with_its_model() -> None:
    with ThreadPoolExecutor(4) as executor:
        profile = profile_recipe(BLOCKS, FORMATS, {"shift": shift}, executor=executor, workers=4)
    assert profile.costs["shift"] == run().costs["shift"]


def test_an_error_of_the_executor_itself_is_passed_on() -> None:
    class Failing(Executor):
        def submit(self, *_: Any, **__: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(OSError("the network is gone"))
            return future

    with pytest.raises(OSError, match="the network is gone"):
        profile_recipe(BLOCKS, FORMATS, {"shift": shift}, executor=Failing())


def test_functions_that_cannot_be_sent_are_refused_before_any_worker_starts() -> None:
    with pytest.raises(InvalidInputError, match=r"^/estimators: cannot be sent to other processes: .*lambda"):
        profile_recipe(BLOCKS, FORMATS, {"unsendable": unsendable}, executor="process", workers=1)


def test_a_recipe_that_gives_every_process_another_model_is_refused(pool: ProcessPoolExecutor) -> None:
    recipe = Recipe("tests.sensitivity.recipes:unseeded")
    with pytest.raises(
        InvalidInputError, match=r"^/recipe: gives another model or other data in a worker than here"
    ):
        profile_recipe(recipe, FORMATS, {"shift": shift}, executor=pool, workers=1)


def test_copies_that_do_not_fit_are_refused_before_any_worker_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["sensitivity.profiling.profile_recipe"], "free_bytes", lambda: 1000)
    message = r"^/workers: needs about 0\.0 MiB \(2 copies of the model 0\.0\), .* use fewer workers"
    with pytest.raises(InvalidInputError, match=message):
        profile_recipe(BLOCKS, FORMATS, ["fisher"], executor="process", workers=2)


def test_no_workers_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"^/workers: expected at least 1, got -1"):
        profile_recipe(BLOCKS, FORMATS, ["fisher"], workers=-1)


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("dask", "distributed")])
def test_a_missing_package_is_named_with_its_extra(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"pip install 'bitalloc\[{name}\]'"):
        profile_recipe(BLOCKS, FORMATS, {"shift": shift}, executor=name, workers=1)


def test_the_number_of_threads_is_what_it_was_afterwards() -> None:
    before = torch.get_num_threads()
    threaded = Recipe(BLOCKS.load, BLOCKS.arguments, threads=before + 1)
    seen: list[int] = []
    profile_recipe(threaded, FORMATS, ["fisher"], progress=lambda *_: seen.append(torch.get_num_threads()))
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before
