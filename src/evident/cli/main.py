"""Entry point: the table of verbs, exit codes, and the one place where an error becomes a message."""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import shutil
import sys
import textwrap
import traceback
from types import MappingProxyType, ModuleType
from typing import NoReturn

from evident import __version__
from evident.cli.terminal import MAX_WIDTH, tell
from evident.errors import EvidentError, UsageError

VERBS = MappingProxyType(
    {
        "demo": "bring up a simulated deployment, attest it, audit it, attack it",
        "plan": "what a deployment would create, prove and cost, before it is made",
        "up": "create a deployment",
        "status": "show deployments and what they still prove",
        "fleet": "all deployments: level, freshness, drift, whom each still trusts",
        "compare": "statements side by side, differences first",
        "attest": "challenge a deployment and appraise its evidence",
        "update": "put another image in the place of a deployment's",
        "revoke": "deny a deployment its keys and identities, and stop it",
        "down": "destroy a deployment",
        "verify": "check evidence completely and give a decision",
        "show": "decode evidence without judging it",
        "explain": "what could be proven on a platform, and whom would one trust",
        "measure": "predict what a launch or a boot will measure",
        "image": "build an image, build it again, or see what it will measure",
        "audit": "export or replay an audit bundle",
        "trust": "list trust anchors, or fetch endorsements for offline use",
        "policy": "check a policy file, or run it over stored bundles",
        "doctor": "what is missing on this machine and how to get it",
    }
)

PACKAGES = frozenset({"rich", "jinja2", "yaml", "rfc8785", "joserfc"})
"""What the extra `cli` of pyproject.toml installs, by the names that are imported."""

EPILOG = """\
examples:
  evident demo                   no hardware and no account needed
  evident verify --kind snp report=report.bin vcek=vcek.der nonce=nonce.bin
  evident verify bundle.json --policy policy.yaml
  evident explain aws-snp        what AWS lets anyone prove
  evident VERB --help            options and examples of a verb

exit codes:
  0 accepted        1 internal error     2 usage
  10 not authentic  11 policy refuses    12 indeterminate
  20 unsupported    30 malformed
"""


class _Help(argparse.HelpFormatter):
    """As wide as the terminal, up to what reads well: sentences are filled, examples and tables stay as they were written."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=min(shutil.get_terminal_size().columns, MAX_WIDTH) - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:  # what argparse calls for a description and an epilog
        return "\n\n".join(
            part if "\n " in part else textwrap.fill(part, width, initial_indent=indent, subsequent_indent=indent)
            for part in text.strip("\n").split("\n\n")
        )


class Parser(argparse.ArgumentParser):
    """Long help, and usage errors in the shape of every other error."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("formatter_class", _Help)
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # argparse's own signature is wider than its stub

    def error(self, message: str) -> NoReturn:
        usage = " ".join(self.format_usage().removeprefix("usage: ").split())
        raise UsageError.of("usage.options", expected=usage, found=message, remedy=f"`{self.prog} --help` explains every option.")


def _verb(name: str) -> ModuleType:
    """Only the verb asked for is imported: `evident --help` stays fast."""
    return importlib.import_module(f"evident.cli.{name}")


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {text}" for name, text in VERBS.items())
    parser = Parser(
        prog="evident",
        description=f"Create confidential VMs, attest them from scratch, and say what each layer is worth.\n\nverbs:\n{verbs}",
        epilog=EPILOG,
        usage="evident [--version] VERB ...",
    )
    parser.add_argument("--version", action="version", version=f"evident {__version__}")
    return parser


def _parse(arguments: list[str]) -> tuple[ModuleType, argparse.Namespace] | None:
    """The verb and its options; None, with the help printed, where none is named. Raises `UsageError`."""
    parser = _top_parser()
    if not arguments or arguments[0].startswith("-"):
        parser.parse_args(arguments)
        parser.print_help(sys.stderr)
        return None
    name = arguments[0]
    if name not in VERBS:
        parser.error(f"no verb {name!r}; verbs are: {', '.join(VERBS)}")
    module = _verb(name)
    verb_parser = Parser(prog=f"evident {name}", description=module.__doc__)
    module.configure(verb_parser)
    return module, verb_parser.parse_args(arguments[1:])


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    gc.set_threshold(50_000)  # what is imported stays: looking through it again every 700 objects is a twentieth of a short command
    arguments = sys.argv[1:] if argv is None else argv
    try:
        parsed = _parse(arguments)
    except UsageError as error:
        return _report(error, "text")
    if parsed is None:
        return 2
    module, options = parsed
    try:
        code: int = module.run(options)
        sys.stdout.flush()
    except EvidentError as error:
        return _report(error, getattr(options, "output", "text"))
    except BrokenPipeError:
        # The reader went away (`| head`): point stdout elsewhere so that the interpreter's own flush stays silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # nobody closer knew better: a full disk, a folder that may not be written
        return _report(_denied_by_system(error), getattr(options, "output", "text"))
    except KeyboardInterrupt:
        print("evident: interrupted", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            return _report_defect(error, arguments[0])
        return _report(_not_installed(error.name), "text")  # JSON is written by one of them
    except Exception as error:  # noqa: BLE001  # the last line of defence: a defect of ours is never shown as a traceback
        return _report_defect(error, arguments[0])
    return code


def _report(error: EvidentError, output: str) -> int:
    if output == "json":
        from evident.reports.json_report import render_error

        print(render_error(error))
    for finding in error.findings:
        tell(f"evident: {finding.code} [{finding.layer}]")
        tell(f"  expected  {finding.expected}\n  found     {finding.found}\n  next      {finding.remedy}")
    return error.exit_code


def _not_installed(package: str) -> UsageError:
    return UsageError.of(
        "cli.packages",
        expected="the packages that the command line needs",
        found=f"no {package}",
        remedy="Install them beside what is there: pip install 'evident[cli]'.",
    )


def _denied_by_system(error: OSError) -> UsageError:
    if os.environ.get("EVIDENT_DEBUG"):
        traceback.print_exception(error)
    return UsageError.of(
        "system.refused",
        expected="a system that lets Evident read and write its files",
        found=f"{error.filename}: {error.strerror}" if error.filename else str(error) or type(error).__name__,
        remedy="Check the path, its permissions and the free space, then run it again. EVIDENT_DEBUG=1 shows where it happened.",
    )


def _report_defect(error: Exception, verb: str) -> int:
    if os.environ.get("EVIDENT_DEBUG"):
        traceback.print_exception(error)
    print(f"evident: internal error in `{verb}`: {type(error).__name__}: {error}", file=sys.stderr)
    print("  next      this is a defect of Evident: run again with EVIDENT_DEBUG=1 and report what it prints", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
