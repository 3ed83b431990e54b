"""Many budgets: fronts, surfaces, sweeps."""
