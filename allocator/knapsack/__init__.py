"""The multiple-choice knapsack: a profile and a request as dense arrays."""
