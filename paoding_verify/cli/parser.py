"""The command line's grammar: verbs and the options they share. Imports nothing heavy, so that --help is quick."""

from __future__ import annotations

import argparse
from importlib import import_module

from paoding_verify import __version__

__all__ = ["VERBS", "build_parser"]

VERBS = {
    "audit": "prune or take a pruned network, prove what holds, write the report",
    "prune": "remove units under a certified robustness signal",
    "certify": "prove or refute robustness of one network, or a VNN-LIB specification",
    "compare": "prove or refute that two networks decide alike, or bound their distance",
    "check": "prove every certified claim of a bundle again, without the engines",
    "sign": "sign a bundle, so that `check --key` can tell who made it",
    "render": "draw the report, or any other output, again from audit.json",
    "doctor": "say which components work, and how to install those that do not",
    "schema": "print the JSON Schema of results",
}
"""Verb -> what it does; each stands in its own module under `verbs`."""

EPILOG = """exit codes: 0 policy met (certify, compare: ran to the end), 1 policy violated, 2 bad usage or input,
3 inconclusive under the policy, 4 internal or worker error, 5 digest mismatch or a claim the checker refuses,
130 interrupted"""


class _Verb(argparse.ArgumentParser):
    """Sections of help that need an import are written when help is asked for, not on every command."""

    def format_help(self) -> str:
        """Options, then the sections that the verb names."""
        from paoding_verify.cli.sections import section

        self.epilog = "\n\n".join(section(name) for name in self.get_default("sections") or ()) or None
        return super().format_help()


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; the chosen verb's function comes back as `run`."""
    parser = argparse.ArgumentParser(
        prog="paoding-verify",
        description="Audits pruned neural networks; every certified claim is proved twice.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"paoding-verify {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB", title="verbs", parser_class=_Verb)
    for name, words in VERBS.items():
        module = import_module(f"paoding_verify.cli.verbs.{name}")
        verb = verbs.add_parser(
            name, help=words, description=f"{words[0].upper()}{words[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        verb.add_argument("--debug", action="store_true", help="show tracebacks, warnings and log lines")
        module.configure(verb)
        verb.set_defaults(run=module.run)
    return parser
