"""Everything that people and machines read, drawn from plain data alone."""
