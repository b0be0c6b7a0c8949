"""Upload of finished pairs to an S3 bucket: objects appear complete, the item last, none is sent twice."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geocd.errors import ConfigError, UploadError
from geocd.report import products
from geocd.report.fingerprint import sha256
from geocd.report.products import Outputs
from geocd.vectorize.formats import FORMATS

if TYPE_CHECKING:
    from geocd.batch.manifest import OutputFile

#: Metadata of an object that holds the SHA-256 of its content; all S3 stores support metadata.
_SHA = "sha256"
_FALSE = ("NO", "FALSE", "OFF", "0")


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
        The URL is invalid, or boto3 is not installed.
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
        """Name of the bucket."""
        return urllib.parse.urlsplit(self.url).netloc

    def key(self, name: str) -> str:
        """Return the key of an object of this folder."""
        return "/".join(filter(None, [*urllib.parse.urlsplit(self.url).path.split("/"), name]))

    def check(self) -> None:
        """Raise :class:`UploadError` where uploads are certain to fail."""
        from botocore.exceptions import ClientError

        with _errors(self.url):
            try:
                _client().head_bucket(Bucket=self.name)
            except ClientError as error:
                # the right to write does not imply that to look; the first upload will show
                if _status(error) != 403:
                    raise

    def holds(self, name: str, file: OutputFile) -> bool:
        """Return whether the bucket has an object with this name, size and SHA-256."""
        from botocore.exceptions import ClientError

        with _errors(f"s3://{self.name}/{self.key(name)}"):
            try:
                head = _client().head_object(Bucket=self.name, Key=self.key(name))
            except ClientError as error:
                if _status(error) in (403, 404):  # without the right to list, what is missing is forbidden
                    return False
                raise
        content = head["ContentLength"], head["Metadata"].get(_SHA)
        return content == (file["size"], file["sha256"])

    def send(self, path: Path, name: str, file: OutputFile | None = None) -> bool:
        """Upload a file unless the bucket has it, and return whether that was necessary.

        The object appears when it is complete, and the store verifies its checksum.

        Parameters
        ----------
        path : pathlib.Path
        name : str
            Name of the object in the folder of the bucket.
        file : OutputFile, optional
            Size and SHA-256 of the file; computed where they are not given.

        Raises
        ------
        UploadError
        """
        file = file or {"size": path.stat().st_size, "sha256": sha256(path)}
        if self.holds(name, file):
            return False
        extra = {
            "Metadata": {_SHA: file["sha256"]},
            "ContentType": media_type(path.name),
        }
        with _errors(f"s3://{self.name}/{self.key(name)}"):
            _client().upload_file(str(path), self.name, self.key(name), ExtraArgs=extra)
        return True

    def send_pair(self, folder: Path, outputs: Mapping[str, OutputFile]) -> None:
        """Upload the outputs of a pair, the item last, so that everything it links to is there.

        Parameters
        ----------
        folder : pathlib.Path
            Folder of the pair; its name is the id.
        outputs : mapping of OutputFile
            Size and SHA-256 by the names of the files.

        Raises
        ------
        UploadError
        """
        item = Outputs(folder / folder.name).path("item").name
        for name in sorted(outputs, key=lambda name: (name == item, name)):
            self.send(folder / name, f"{folder.name}/{name}", outputs[name])

    def lacks(self, name: str, outputs: Mapping[str, OutputFile]) -> str | None:
        """Return the first output of a pair that the bucket lacks or has differently; None without one."""
        missing = (file for file in outputs if not self.holds(f"{name}/{file}", outputs[file]))
        return next(missing, None)


def media_type(name: str) -> str:
    """Return the media type of a file of a batch, which browsers and STAC readers go by."""
    types = {fmt.suffix: fmt.media_type for fmt in FORMATS.values()}
    types |= {entry.suffix: entry.media_type for entry in products.PRODUCTS}
    types[".json"] = "application/json"  # not only items: the catalogue is no GeoJSON
    suffixes = [suffix for suffix in types if name.endswith(suffix)]
    return types[max(suffixes, key=len)] if suffixes else "application/octet-stream"


def _client() -> Any:
    """Return the client for this environment.

    Variables of GDAL, which reads the inputs, also apply here, so that they need not be set twice.
    """
    variable = os.environ.get
    endpoint = variable("AWS_ENDPOINT_URL_S3") or variable("AWS_ENDPOINT_URL") or variable("AWS_S3_ENDPOINT")
    if endpoint and "://" not in endpoint:
        endpoint = f"{'http' if variable('AWS_HTTPS', '').upper() in _FALSE else 'https'}://{endpoint}"
    path_style = variable("AWS_VIRTUAL_HOSTING", "").upper() in _FALSE
    return _make(endpoint, variable("AWS_REGION") or variable("AWS_DEFAULT_REGION"), path_style, os.getpid())


@functools.lru_cache(4)
def _make(endpoint: str | None, region: str | None, path_style: bool, process: int) -> Any:
    import boto3
    from botocore.config import Config

    del process  # part of the cache key: a client must not be used after a fork
    config = Config(s3={"addressing_style": "path" if path_style else "auto"})
    if "AWS_MAX_ATTEMPTS" not in os.environ:
        # with longer and longer waits
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
            "the results are kept, and --retry-failed uploads them.",
            url=url,
        ) from error


__all__ = ["Bucket", "media_type"]
