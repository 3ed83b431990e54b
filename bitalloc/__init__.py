"""Which layer of a neural network gets how many bits: the front door."""
