"""The exported model, read back by three independent readers and solved by others than ours."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbcbox
import numpy as np
import pulp
import pytest
from ortools.linear_solver.python import model_builder

from allocator import InvalidInputError, Status, certify, export_mps, load_profile, make_request, solve
from allocator.knapsack.mps import cost_exponent, to_mps
from tests.allocator.oracle import best_plan
from tests.allocator.problems import LIBRARY, brute_force
from tests.allocator.profiles import profile_json, with_units
from tests.allocator.solvers.exact.test_fuzz import draw


def by_ortools(text: str, solver: str = "scip") -> tuple[float, set[str]] | None:
    """Optimum and the binaries taken, by OR-Tools' reader; None where infeasible."""
    model = model_builder.Model()
    assert model.import_from_mps_string(text)
    run = model_builder.Solver(solver)
    run.set_solver_specific_parameters("limits/gap = 0" if solver == "scip" else "")
    status = run.solve(model)
    if status == model_builder.SolveStatus.INFEASIBLE:
        return None
    assert status == model_builder.SolveStatus.OPTIMAL
    taken = {variable.name for variable in model.get_variables() if run.value(variable) > 0.5}
    return float(run.objective_value), taken


def by_cbc(text: str, folder: Path) -> tuple[float, set[str]] | None:
    """The same by CBC itself, from a file."""
    (folder / "model.mps").write_text(text)
    command = [cbcbox.cbc_bin_path(), "model.mps", "-ratio", "0", "-allow", "0", "-solve", "-solu", "out.txt"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    first, *rest = (folder / "out.txt").read_text().splitlines()
    if first.startswith(("Infeasible", "Integer infeasible")):
        return None
    assert first.startswith("Optimal"), first
    taken = {line.split()[-3] for line in rest if float(line.split()[-2]) > 0.5}
    return float(first.split()[-1]), taken


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.thorough
def test_the_optimum_of_the_file_is_the_optimum_of_the_problem(name: str, tmp_path: Path) -> None:
    problem, best = LIBRARY[name], brute_force(LIBRARY[name])
    text = to_mps(problem)
    answers = [by_ortools(text), by_ortools(text, "highs"), by_cbc(text, tmp_path)]
    if best is None:
        assert answers == [None, None, None]
        return
    tolerance = 1e-9 * float(np.ptp(problem.cost, axis=1).max())
    for answer in answers:
        assert answer is not None
        choice = np.array([int(item.split("_")[1]) for item in sorted(answer[1], key=_unit)])
        assert problem.feasible(choice)
        assert problem.objective(choice) == pytest.approx(best.objective, rel=1e-9, abs=tolerance)
        assert np.ldexp(answer[0], -cost_exponent(problem)) == pytest.approx(
            best.objective, rel=1e-6, abs=1e3 * tolerance
        )


def _unit(column: str) -> int:
    return int(column[1:].split("_")[0])


def test_every_number_is_written_in_full() -> None:
    problem = LIBRARY["decimals at the limit"]
    values = {line.split()[-1] for line in to_mps(problem).splitlines()}
    assert repr(float(problem.limit[0])) in values
    assert {"0.1", "0.2"} <= values


def test_pulp_reads_the_same_model(tmp_path: Path) -> None:
    problem, path = LIBRARY["missing options"], tmp_path / "model.mps"
    path.write_text(to_mps(problem))
    variables, model = pulp.LpProblem.fromMPS(str(path))
    assert set(variables) == {"x0_0", "x0_2", "x1_1", "x2_0", "x2_1"}
    assert {variable.cat for variable in variables.values()} == {"Integer"}
    assert {(variable.lowBound, variable.upBound) for variable in variables.values()} == {(0, 1)}
    assert all(model.get_constraint_by_name(name) for name in ("one0", "one1", "one2", "most0"))


REQUESTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one budget": ({}, {"budgets": {"effective_bits": 4}}),
    "a maximum": ({"costs": {"sqnr": {"values": [[1, 5, 6], [2, 3, 9], [1, 7, 8]], "better": "higher"}}}, {}),
    "a constant in the objective": ({}, {"objective": "latency_us", "budgets": {"kl": 1.5}}),
    "a band": ({}, {"limits": [{"table": "weight_bytes", "min": 150, "max": 200}]}),
    "a demand": ({}, {"limits": [{"formats": ["int2"], "min": 2}], "budgets": {"latency_us": 40}}),
    "units": ({"layers": with_units("u", None, "u")}, {"budgets": {"weight_bytes": 200}}),
    "a fusion": (
        {
            "fusions": [
                {
                    "name": "block",
                    "layers": ["block.0.up", "block.0.down"],
                    "resources": {"latency_us": [1, 2, 3]},
                }
            ]
        },
        {"budgets": {"latency_us": 25}},
    ),
    "names that no file would take": (
        {"layers": [{"name": name} for name in ("a b", "a_b", "'ENDATA'\n" + 300 * "ü")]},
        {"budgets": {"weight_bytes": 160}},
    ),
    "a peak that cannot be kept": (
        {"resources": {"peak": {"values": [[5, 6, 7]] * 3, "combine": "max"}}},
        {"budgets": {"peak": 4}},
    ),
    "no plan": ({}, {"limits": [{"formats": ["int8"], "min": 2}], "budgets": {"weight_bytes": 100}}),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_survive_the_way_through_another_solver(name: str, tmp_path: Path) -> None:
    changes, fields = REQUESTS[name]
    profile = load_profile(profile_json(**changes))
    model, expected = export_mps(profile, **fields), solve(profile, **fields)
    for answer in (by_ortools(model.text), by_cbc(model.text, tmp_path)):
        if expected.status is Status.INFEASIBLE:
            assert answer is None
            continue
        assert answer is not None
        assert model.objective(answer[0]) == pytest.approx(expected.objective, rel=1e-9)
        assignment = model.assignment(answer[1])
        fusions = [fusion for column in answer[1] for fusion in model.fusions.get(column, ())]
        certificate = certify(profile, make_request(fields), assignment, fusions)
        assert certificate.violations == ()
        assert certificate.objective == pytest.approx(expected.objective, rel=1e-9)


def test_demands_are_written_as_they_were_asked() -> None:
    limits = [{"name": "band", "table": "weight_bytes", "min": 150, "max": 200}]
    lines = export_mps(profile_json(), limits=limits).text.splitlines()
    assert {" L most0_band", " G least1_band", " RHS most0_band 200.0", " RHS least1_band 150.0"} <= set(
        lines
    )


def test_names_can_be_traced() -> None:
    model = export_mps(profile_json(), budgets={"weight_bytes": 160})
    assert model.plans["x1_2_block.0.down_int8"] == {"block.0.down": "int8"}
    assert len(model.plans) == 9


@pytest.mark.thorough
def test_random_requests_keep_their_optimum() -> None:
    rng = np.random.default_rng(0)
    infeasible = 0
    for trial in range(150):
        profile, request = draw(rng)
        expected = best_plan(profile, request)
        model = export_mps(profile, **request)
        answer = by_ortools(model.text)
        infeasible += answer is None
        assert (answer is None) == (expected is None), trial
        if answer is not None and expected is not None:
            assert model.objective(answer[0]) == pytest.approx(expected.objective, rel=1e-9, abs=1e-15), trial
    assert 10 < infeasible < 140


def test_a_published_case_keeps_its_optimum(published: Callable[[str], Any]) -> None:
    case = published("hawq_resnet18.json")
    for request in case["requests"]:
        model = export_mps(case["profile"], objective=request["objective"], budgets=request["budgets"])
        answer = by_ortools(model.text)
        assert answer is not None
        assert model.objective(answer[0]) == pytest.approx(request["expected"]["optimal_objective"], rel=1e-9)


def test_refuses_what_solve_refuses() -> None:
    with pytest.raises(InvalidInputError, match="/budgets/bytes: unknown budget 'bytes'"):
        export_mps(profile_json(), budgets={"bytes": 1})
