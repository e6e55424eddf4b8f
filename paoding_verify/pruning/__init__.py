"""Stochastic progressive pruning under a certified robustness signal."""
