"""Finished pairs into a bucket of S3: every object whole, the item last, nothing twice."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geocd.errors import ConfigError, UploadError
from geocd.report import products
from geocd.report.fingerprint import sha256
from geocd.report.products import Outputs
from geocd.vectorize.formats import FORMATS

#: Where an object keeps the SHA-256 of its content: every store of this kind keeps metadata.
_SHA = "sha256"
_NO = ("NO", "FALSE", "OFF", "0")


@dataclasses.dataclass(frozen=True)
class Bucket:
    """A bucket, or a folder of one.

    Parameters
    ----------
    url : str
        ``s3://bucket`` or ``s3://bucket/folder``.

    Raises
    ------
    ConfigError
        The URL is another, or boto3 is not installed.
    """

    url: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"s3://[A-Za-z0-9][A-Za-z0-9.:_-]+(/[^?#]*)?", self.url):
            raise ConfigError(f"--upload {self.url}: must be s3://bucket or s3://bucket/folder.")
        try:
            import boto3  # noqa: F401
        except ModuleNotFoundError as error:
            raise ConfigError("--upload needs boto3: pip install 'geocd[batch,s3]'.") from error

    @property
    def name(self) -> str:
        """The bucket."""
        return urllib.parse.urlsplit(self.url).netloc

    def key(self, name: str) -> str:
        """Return the key of an object of this folder."""
        return "/".join(filter(None, [*urllib.parse.urlsplit(self.url).path.split("/"), name]))

    def check(self) -> None:
        """Raise :class:`UploadError` where it is certain that nothing can be uploaded."""
        from botocore.exceptions import ClientError

        with _errors(self.url):
            try:
                _client().head_bucket(Bucket=self.name)
            except ClientError as error:
                # who may write need not be allowed to look; the first upload will tell
                if _status(error) != 403:
                    raise

    def holds(self, name: str, told: Mapping[str, Any]) -> bool:
        """Tell whether an object is there with this ``size`` and ``sha256``."""
        from botocore.exceptions import ClientError

        with _errors(f"s3://{self.name}/{self.key(name)}"):
            try:
                found = _client().head_object(Bucket=self.name, Key=self.key(name))
            except ClientError as error:
                if _status(error) in (403, 404):  # without the right to list, what is missing is forbidden
                    return False
                raise
        there = found["ContentLength"], found["Metadata"].get(_SHA)
        return there == (told["size"], told["sha256"])

    def send(self, path: Path, name: str, told: Mapping[str, Any] | None = None) -> bool:
        """Upload a file, unless the bucket has it; tell whether that was necessary.

        It appears when it is complete, and the store compares checksums of what is sent and of what came.

        Parameters
        ----------
        path : pathlib.Path
        name : str
            In the bucket's folder.
        told : mapping, optional
            ``size`` and ``sha256`` of the file; found here where they are not given.

        Raises
        ------
        UploadError
        """
        told = told or {"size": path.stat().st_size, "sha256": sha256(path)}
        if self.holds(name, told):
            return False
        extra = {
            "Metadata": {_SHA: told["sha256"]},
            "ContentType": media_type(path.name),
        }
        with _errors(f"s3://{self.name}/{self.key(name)}"):
            _client().upload_file(str(path), self.name, self.key(name), ExtraArgs=extra)
        return True

    def send_pair(self, folder: Path, outputs: Mapping[str, Mapping[str, Any]]) -> None:
        """Upload the outputs of a pair, the item last: where it is, all it speaks of is.

        Parameters
        ----------
        folder : pathlib.Path
            Of the pair; its name is the id.
        outputs : mapping
            ``size`` and ``sha256`` by the names of the files.

        Raises
        ------
        UploadError
        """
        item = Outputs(folder / folder.name).path("item").name
        for name in sorted(outputs, key=lambda name: (name == item, name)):
            self.send(folder / name, f"{folder.name}/{name}", outputs[name])

    def lacks(self, name: str, outputs: Mapping[str, Mapping[str, Any]]) -> str | None:
        """Return which output of a pair is not in the bucket as it should be; None when all are."""
        return next((one for one in outputs if not self.holds(f"{name}/{one}", outputs[one])), None)


def media_type(name: str) -> str:
    """Return the media type of a file of a batch, which browsers and STAC readers go by."""
    types = {fmt.suffix: fmt.media_type for fmt in FORMATS.values()}
    types |= {entry.suffix: entry.media_type for entry in products.PRODUCTS}
    types[".json"] = "application/json"  # not only items: the catalogue is no GeoJSON
    suffixes = [suffix for suffix in types if name.endswith(suffix)]
    return types[max(suffixes, key=len)] if suffixes else "application/octet-stream"


def _client() -> Any:
    """Return the client for this environment.

    What GDAL is told, by which the inputs are read, holds here too, so that nothing need be said twice.
    """
    told = os.environ.get
    endpoint = told("AWS_ENDPOINT_URL_S3") or told("AWS_ENDPOINT_URL") or told("AWS_S3_ENDPOINT")
    if endpoint and "://" not in endpoint:
        endpoint = f"{'http' if told('AWS_HTTPS', '').upper() in _NO else 'https'}://{endpoint}"
    path_style = told("AWS_VIRTUAL_HOSTING", "").upper() in _NO
    return _make(endpoint, told("AWS_REGION") or told("AWS_DEFAULT_REGION"), path_style, os.getpid())


@functools.lru_cache(4)
def _make(endpoint: str | None, region: str | None, path_style: bool, process: int) -> Any:
    import boto3
    from botocore.config import Config

    del process  # a client must not be taken along into a fork
    config = Config(s3={"addressing_style": "path" if path_style else "auto"})
    if "AWS_MAX_ATTEMPTS" not in os.environ:
        # each time after a longer wait
        config = config.merge(Config(retries={"mode": "standard", "total_max_attempts": 5}))
    session = boto3.session.Session()
    return session.client("s3", endpoint_url=endpoint, region_name=region, config=config)


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextmanager
def _errors(url: str) -> Iterator[None]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        reason = " ".join(str(error).split())
        if isinstance(error, ClientError) and _status(error) == 404:
            reason = "no such bucket"
        raise UploadError(
            f"{url}: cannot be uploaded ({reason}). Check the bucket, the credentials and AWS_ENDPOINT_URL; "
            "what was computed is kept, and --retry-failed uploads it.",
            url=url,
        ) from error


__all__ = ["Bucket", "media_type"]
