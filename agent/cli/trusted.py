"""Commands of `changeover models` about signatures and sticks: sign, bundle, import."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.options import FILE, FOLDER, config_option, reference, settings_of
from agent.cli.signing import asker, needs_extra, password_option
from agent.messages.errors import MistakeError

if TYPE_CHECKING:
    from agent.messages.references import ModelReference


def _references(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> "tuple[ModelReference | None, ...]":
    return tuple(reference(context, parameter, value) for value in values)


@click.command()
@click.argument("file", type=FILE)
@click.option(
    "--key", "key_file", required=True, type=FILE, help="A secret key as `minisign -G` or `index key` makes it."
)
@click.option("--model", "ref", callback=reference, help="Make it good for this model alone: NAME:VARIANT@VERSION.")
@password_option
def sign(file: Path, key_file: Path, ref: "ModelReference | None", password_file: Path | None) -> None:
    """Sign FILE, and what is read with it, as `minisign -S` does: the signature is FILE.minisig."""
    with needs_extra():
        from agent.trust.authoring.key_folder import read_secret
        from agent.trust.authoring.signing import sign_model

    if ref is not None and None in {ref.variant, ref.version}:
        raise MistakeError(f"found {ref}, expected a full reference NAME:VARIANT@VERSION")
    for path in sign_model(file, read_secret(key_file, asker(password_file)), str(ref or "")):
        click.echo(f"wrote {path}")


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.argument("refs", metavar="REF...", nargs=-1, required=True, callback=_references)
@config_option
def bundle(out: Path, refs: "tuple[ModelReference, ...]", config: Path | None) -> None:
    """Copy the models that each REF names to OUT, a folder on a stick, with signatures and the signed index."""
    settings = settings_of(config)
    from agent.models.catalog import Catalog
    from agent.trust.configured import verifier_of

    with needs_extra():
        from agent.trust.stick.bundle import bundle as write_bundle

    catalog = Catalog.load(settings.catalog.file, settings.catalog.store_dir)
    versions = {}
    for ref in refs:
        found = catalog.matching(ref)
        if not found:
            raise MistakeError(f"the catalog has no {ref}")
        versions.update({version.reference: version for version in found})
    for line in write_bundle(out, list(versions.values()), verifier_of(settings)):
        click.echo(line)


@click.command(name="import")
@click.argument("folder", type=FOLDER)
@click.option("--only-signed", is_flag=True, help="Refuse where neither trusted_keys nor root is configured.")
@config_option
def import_(folder: Path, config: Path | None, *, only_signed: bool) -> None:
    """Import the models of FOLDER, a stick that `models bundle` wrote or a copy of an index, verified offline."""
    settings = settings_of(config)
    from agent.trust.configured import verifier_of

    verifier = verifier_of(settings)
    if only_signed and verifier is None:
        raise MistakeError("nothing is imported unsigned: configure catalog.trusted_keys, or catalog.root of an index")
    with needs_extra():
        from agent.trust.stick.importing import Target, import_models

    catalog = settings.catalog
    target = Target(catalog.file, catalog.store_dir, settings.device.state_dir, catalog.max_bytes, catalog.min_free)
    import_models(folder, target, verifier, lambda one: click.echo(str(one), err=one.error is not None))
