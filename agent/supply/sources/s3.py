"""s3://BUCKET/KEY: Amazon's S3 and compatible services, by presigned URLs."""

import datetime as dt
from typing import Final
from urllib.parse import unquote, urlsplit

from agent.messages.errors import ModelError
from agent.messages.short_lived.supply import SupplyHost
from agent.supply.sources.hosts import Hosts, secret
from agent.supply.sources.located import Located, name_of
from agent.supply.sources.web import Web
from agent.supply.wanted import Wanted

_AMAZON: Final = "s3.amazonaws.com"
_REGION: Final = "us-east-1"
_LIVES: Final = dt.timedelta(hours=1)
"""Validity of a presigned URL, which each attempt asks for anew."""


def resolve(wanted: Wanted, web: Web) -> Located:
    """Return a presigned URL of the object; without keys, the URL of a public one.

    Raises ModelError where it is not clear which host has the bucket.
    """
    from minio import Minio  # noqa: PLC0415 - it is heavy, and for this source alone
    from minio.error import MinioException  # noqa: PLC0415

    parts = urlsplit(wanted.reference)
    bucket, key = parts.netloc, wanted.name_beside(unquote(parts.path).lstrip("/"))
    if not bucket or not key:
        raise ModelError("source_refused", f"{wanted.reference}: expected s3://BUCKET/KEY")
    host = _host_of(bucket, web.hosts)
    endpoint = host.endpoint or f"https://{host.host}"
    keys = [secret(file) for file in (host.access_key_file, host.secret_key_file) if file]
    try:
        client = Minio(
            endpoint=urlsplit(endpoint).netloc,
            access_key=keys[0] if keys else None,
            secret_key=keys[1] if len(keys) > 1 else None,
            secure=endpoint.startswith("https"),
            region=host.region or _REGION,
        )
        url = client.presigned_get_object(bucket_name=bucket, object_name=key, expires=_LIVES)
    except (ValueError, MinioException) as error:
        raise ModelError("source_refused", f"{wanted.reference}: {error}") from None
    return Located(url, name_of(url))


def _host_of(bucket: str, hosts: Hosts) -> SupplyHost:
    """Return the host that is named as the bucket, else the only one with keys, else Amazon's."""
    own = hosts.of(bucket)
    if own.endpoint:
        return own
    with_keys = hosts.with_keys()
    if len(with_keys) > 1:
        wanted = f'[supply.host."{bucket}"] with its endpoint'
        raise ModelError("source_refused", f"s3://{bucket}: several hosts have keys: expected {wanted}")
    return with_keys[0] if with_keys else SupplyHost(_AMAZON)
