"""`schema`."""

from __future__ import annotations

import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb has no options of its own."""


def run(args: argparse.Namespace) -> int:
    """Prints the JSON Schema of audit.json and of every --json output, which names verdict and counts as well."""
    import json

    from paoding_verify.evidence.verdict import Outcome
    from paoding_verify.report.schema import json_schema

    schema = json_schema()
    schema["$defs"]["AuditResult"]["properties"] |= {
        "verdict": {"enum": [None, *(str(outcome) for outcome in Outcome)]},
        "counts": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
    }
    print(json.dumps(schema, indent=2))
    return 0
