"""What no plan can beat: the Lagrangian dual, hulls, cutting planes and the rate law."""
