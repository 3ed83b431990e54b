"""Plans without a proof: greedy, uniform, the rounded relaxation, local search."""
