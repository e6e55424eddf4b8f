"""One audit from models to bundle: configuration, policy, orchestration."""
