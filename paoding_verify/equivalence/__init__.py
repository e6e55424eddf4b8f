"""The cascade that certifies or refutes equivalence of a pair of networks."""
