"""Objects in a bucket of S3, written only where there is none (`If-None-Match: *`).

Credentials are boto3's business (environment, profile, instance role); none stands in the settings. A bucket with
versions and Object Lock keeps what was written first: that is what `get` returns, whatever was put over it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from mcpops.objects.store import Exists, Unreachable

# S3 answers so when an object is there (412), or when another writer is at it (409).
_THERE = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_MISSING = frozenset({"NoSuchKey", "404"})
_CONNECT_S, _READ_S = 5, 20


class S3:
    """An object store in a bucket, below `prefix`."""

    def __init__(
        self,
        *,
        bucket: str,
        prefix: str = "",
        endpoint_url: str | None = None,
        region: str | None = None,
        profile: str | None = None,
    ) -> None:
        self._bucket, self._prefix = bucket, prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._place = {"endpoint_url": endpoint_url, "region_name": region}
        self._profile = profile
        self.name = f"s3://{bucket}/{self._prefix}"

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 - boto3 has no types of its own
        import boto3  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        # Since 1.36 boto3 adds checksums of its own that many servers do not know (boto3 issue 4392).
        config = Config(
            connect_timeout=_CONNECT_S,
            read_timeout=_READ_S,
            retries={"mode": "standard", "max_attempts": 3},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return boto3.Session(profile_name=self._profile).client("s3", config=config, **self._place)

    def put_new(self, name: str, data: bytes) -> None:
        """Write an object that is not there yet."""
        key = self._prefix + name
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        try:
            self._client.put_object(Bucket=self._bucket, Key=key, Body=data, IfNoneMatch="*", ChecksumSHA256=checksum)
        except Exception as error:
            if _code(error) not in _THERE:
                raise self._explained(error) from error
            if self.get(name) != data:
                raise Exists(name) from error

    def get(self, name: str) -> bytes:
        """Return the content that was written first."""
        key = self._prefix + name
        try:
            # The newest comes first; times are of whole seconds, and say less than the order.
            kept = [row for row in self._versions(key) if row["Key"] == key and row["VersionId"] != "null"]
            which = {"VersionId": kept[-1]["VersionId"]} if kept else {}
            body: bytes = self._client.get_object(Bucket=self._bucket, Key=key, **which)["Body"].read()
        except Exception as error:
            if _code(error) in _MISSING:
                raise KeyError(name) from error
            raise self._explained(error) from error
        return body

    def names(self, prefix: str) -> Iterator[str]:
        """Yield the names that begin with `prefix`, sorted; also those that somebody marked as deleted."""
        try:
            keys = {row["Key"] for row in self._versions(self._prefix + prefix)}
        except Exception as error:
            raise self._explained(error) from error
        yield from sorted(key.removeprefix(self._prefix) for key in keys)

    def _versions(self, prefix: str) -> list[dict[str, Any]]:
        """Return all versions of all objects that begin with `prefix`; where the bucket keeps none, one of each."""
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=prefix)
        return [row for page in pages for row in page.get("Versions", [])]

    def _explained(self, error: Exception) -> Exception:
        """Return the error of ours for one of boto3's; anything else as it is."""
        if type(error).__module__.partition(".")[0] not in ("boto3", "botocore"):
            return error
        return Unreachable(
            f"the store {self.name} cannot be used", detail=str(error), hint="see bucket and credentials"
        )


def _code(error: Exception) -> str:
    answer = getattr(error, "response", None) or {}
    return str(answer.get("Error", {}).get("Code", ""))
