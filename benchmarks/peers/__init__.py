"""Other tools that assign bits, each in an environment of its own, beside our solver at equal bytes."""
