"""Commands about comparisons of two versions of a model."""

import json
import sys
from pathlib import Path

import click

from agent.cli.options import config_option, settings_of


@click.group()
def canary() -> None:
    """Compare a new version of a model with the one that serves."""


@canary.command()
@click.argument("line", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.option("--html", "as_html", is_flag=True, help="Print the report as one HTML page with its pictures.")
@config_option
def report(line: str | None, config: Path | None, *, as_json: bool, as_html: bool) -> None:
    """Report the running or last comparison of LINE, from this device's own records."""
    settings = settings_of(config)
    from agent.report import comparison_report

    found = comparison_report.report_of(settings, comparison_report.line_of(settings, line))
    if as_html:
        from agent.report.page import page

        sys.stdout.write(page(found))
    elif as_json:
        click.echo(json.dumps(comparison_report.as_json(found)))
    else:
        for text in comparison_report.readable(found):
            click.echo(text)
