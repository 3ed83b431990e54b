"""Any model: its layers, blocks, experts and calls, and which model it is."""
