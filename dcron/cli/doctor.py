"""`dcron doctor`: is a node set up well?"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dcron.cli.failures import ExitCode, one_line
from dcron.cli.options import output_option

if TYPE_CHECKING:
    from dcron.domain.checkup import Finding

__all__ = ["doctor"]

_STYLES = {"ok": "green", "warning": "yellow", "failed": "red"}
LEVEL_WIDTH = 7


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="TOML file with the node's settings, as for 'dcron serve'; DCRON_* variables win over it.",
)
@output_option
@click.pass_context
def doctor(context: click.Context, config: Path | None, output: str) -> None:
    """Check a node's set-up, on its own machine, before it runs or while it runs.

    Looks at the settings, the spool, limits, interpreters, both stores, the clock, and the other nodes.
    Leaves nothing behind. Run it as the user that runs dcron, with the same environment. The exit code is
    1 when something failed.

    \b
    Example:
      dcron doctor --config /etc/dcron/node.toml
    """
    from dcron.doctor import examine

    _quiet_logs()
    findings = asyncio.run(examine(config, os.environ))
    if output == "json":
        print(json.dumps(_for_programs(findings), indent=2))
    else:
        _print(findings)
    failed = any(finding.level.value == "failed" for finding in findings)
    context.exit(ExitCode.FAILED if failed else ExitCode.OK)


def _quiet_logs() -> None:
    """Silence the log of the adapters while they are tried: the findings say the same."""
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _for_programs(findings: Sequence[Finding]) -> dict[str, object]:
    return {
        "findings": [
            {
                "check": finding.check,
                "level": finding.level.value,
                "message": finding.message,
                "remedy": finding.remedy,
            }
            for finding in findings
        ],
        **{
            level: sum(finding.level.value == level for finding in findings)
            for level in ("ok", "warning", "failed")
        },
    }


def _print(findings: Sequence[Finding]) -> None:
    """One line for each."""
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        level = finding.level.value
        remedy = f"; {finding.remedy}" if finding.remedy else ""
        told = click.style(level.ljust(LEVEL_WIDTH), fg=_STYLES[level])
        click.echo(f"{told}  {finding.check.ljust(width)}  {one_line(finding.message + remedy)}")
