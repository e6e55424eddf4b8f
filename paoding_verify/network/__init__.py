"""The canonical network: one model, read by search, checker and solvers alike."""
