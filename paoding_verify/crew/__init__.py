"""Cascades over many claims: what is worked on together, by whom, and what becomes of failures."""
