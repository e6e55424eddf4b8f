"""One module per verb: `configure` adds its options, `run` calls the library and returns the exit code."""
