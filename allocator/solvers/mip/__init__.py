"""The whole model through MIP solvers: HiGHS, PuLP with CBC, CP-SAT."""
