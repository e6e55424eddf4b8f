"""Fuzzing of everything that reads files of strangers: a target a format, bytes in, a refusal or a value out."""
