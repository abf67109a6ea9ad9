"""Commands of `changeover models`, about the catalog and its store."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.options import FOLDER, classes_option, config_option, rank_option, reference, settings_of
from agent.messages.errors import EXIT_MISTAKE, EXIT_OK, MistakeError

if TYPE_CHECKING:
    from agent.messages.references import ModelReference
    from agent.models.store import Store
    from agent.settings import Settings


@click.group()
def models() -> None:
    """List, add, prepare, verify and remove models of the catalog. REF is NAME[:VARIANT][@VERSION]."""


def _store(settings: "Settings") -> "Store":
    from agent.models.store import Store

    return Store(settings.catalog.file, settings.catalog.store_dir)


@models.command(name="list")
@config_option
def list_models(config: Path | None) -> None:
    """Print each version: reference, size, file, task and layout, its artifact's profile, what it ran on, its trust."""
    from agent.app.configuration.model_list import rows

    for row in rows(settings_of(config)):
        click.echo(row)


@models.command()
@click.argument("line")
@click.option("--json", "as_json", is_flag=True, help="Print the records as one JSON list.")
@config_option
def log(line: str, config: Path | None, *, as_json: bool) -> None:
    """Tell which model served LINE when, why, and with what result, from this device's own records."""
    import time

    from agent.report.served_command import readable, records_of

    records = records_of(settings_of(config), line)
    if as_json:
        import json

        import msgspec

        click.echo(json.dumps(msgspec.to_builtins(records)))  # ASCII alone, because a terminal may show it
        return
    for text in readable(records, time.time()):
        click.echo(text)


@models.command()
@click.argument("ref", callback=reference)
@click.argument("file", type=click.Path(path_type=Path))
@classes_option
@rank_option
@config_option
def add(ref: "ModelReference", file: Path, classes: tuple[str, ...], rank: float | None, config: Path | None) -> None:
    """Copy FILE, or an exported OpenVINO folder, into the store and enter it as REF (in full: NAME:VARIANT@VERSION)."""
    from agent.models.checks import is_for_requests_alone
    from agent.models.keeping.copying import Release, why_no_picture

    settings = settings_of(config)
    may_be_tensors = is_for_requests_alone(settings, ref.name)
    version = _store(settings).add(Release(ref, classes, rank, may_be_tensors), file)
    click.echo(f"added {version.reference}\t{version.path}\tsha256 {version.sha256}")
    if why := why_no_picture(Path(version.path)):
        click.echo(f"only requests can use it: {why}")
    from agent.app.configuration.model_changes import after_adding

    click.echo(after_adding(settings, version))


@models.command()
@click.argument("ref", callback=reference, required=False)
@config_option
def verify(ref: "ModelReference | None", config: Path | None) -> None:
    """Compare files with their sha256, and with their signatures: of all versions, or of those that REF names."""
    from agent.models.catalog import Catalog
    from agent.models.file_faults import mismatch
    from agent.trust.words import TrustReader

    settings = settings_of(config)
    versions = Catalog.load(settings.catalog.file, settings.catalog.store_dir).matching(ref)
    if ref is not None and not versions:
        raise MistakeError(f"the catalog has no {ref}")
    trust = TrustReader(settings)
    errors = [mismatch(version) or trust.distrust(version) for version in versions]
    for version, error in zip(versions, errors, strict=True):
        verdict = "ok" if error is None else f"{error.reason}: {error}"
        click.echo(f"{version.reference}\t{verdict}")
    if any(errors):
        sys.exit(EXIT_MISTAKE)


@models.command()
@click.argument("ref", callback=reference)
@click.option("--images", type=FOLDER, help="Pictures that decide between precisions; else the catalog's golden ones.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON a model: how it went, its profile.")
@config_option
def prepare(ref: "ModelReference", images: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Prepare the versions that REF names for this device, so that their first load is as fast as later ones."""
    from agent.models.catalog import Catalog
    from agent.models.preparation import Preparation, Request
    from agent.trust.configured import verifier_of

    settings = settings_of(config)
    versions = Catalog.load(settings.catalog.file, settings.catalog.store_dir).matching(ref)
    if not versions:
        raise MistakeError(f"the catalog has no {ref}")
    codes = {EXIT_OK}
    verifier = verifier_of(settings)
    for version in versions:
        if verifier is not None:
            verifier.verify_file(version, Path(version.path))
        device = settings.device
        folder = str(images.absolute()) if images else None
        options = (device.compute, str(device.cache_dir), device.prepared_max_bytes, folder)
        request = Request(version, *options)
        outcome = Preparation(request, lambda step: click.echo(f"... {step}", err=True)).run()
        words = f"{version.reference}\t{outcome.result}: {outcome.detail}"
        click.echo(outcome.as_json(version.reference) if as_json else words)
        codes.add(outcome.exit_code)
    sys.exit(max(codes))


@models.command()
@click.argument("ref", callback=reference)
@click.option("--force", is_flag=True, help="Also where the configuration or the running agent uses it.")
@config_option
def remove(ref: "ModelReference", config: Path | None, *, force: bool) -> None:
    """Remove REF (in full) from the catalog, and its files from the store."""
    from agent.app.configuration.model_changes import after_removing, require_unused

    settings = settings_of(config)
    if not force:
        require_unused(settings, ref)
    click.echo(f"removed {_store(settings).remove(ref).reference}")
    click.echo(after_removing(settings))


@models.command()
@click.argument("ref", callback=reference, required=False)
@click.option("--timeout", "max_s", type=click.FloatRange(min=1), default=3600.0, show_default=True, help="Seconds.")
@config_option
def fetch(ref: "ModelReference | None", max_s: float, config: Path | None) -> None:
    """Fetch now what the store lacks of the catalog, or of REF; goes on where an earlier fetch ended."""
    from agent.fetch.fetch_command import run

    sys.exit(run(settings_of(config), ref, max_s, click.echo))


@models.command()
@click.option("--dry-run", is_flag=True, help="Say why each would stay or go, and delete nothing.")
@config_option
def gc(config: Path | None, *, dry_run: bool) -> None:
    """Delete what the store keeps and nothing names any more: no catalog, no line, no job."""
    from agent.models.keeping.in_use import read_in_use

    settings = settings_of(config)
    uses, store = read_in_use(settings.device.state_dir), _store(settings)
    found = store.survey(uses) if dry_run else store.collect(uses)
    for release in found:
        what = "stays" if release.stays else "would go" if dry_run else "went"
        if not release.stays and not dry_run and release.folder.exists():
            what = "could not be deleted"
        click.echo(f"{what}\t{release.bytes / 1e6:.1f} MB\t{release.folder.name[:12]}\t{release.why}")
    freed = sum(release.bytes for release in found if not release.stays)
    click.echo(
        f"{'would free' if dry_run else 'freed'} {freed / 1e6:.1f} MB of {sum(one.bytes for one in found) / 1e6:.1f} MB"
    )
