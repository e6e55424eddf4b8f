"""Plain data: verdicts, claims, certificates, results. No engine, no torch."""
