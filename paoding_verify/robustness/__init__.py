"""The cascade that certifies or refutes robustness of one network."""
