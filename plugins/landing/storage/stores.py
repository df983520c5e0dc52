"""Opens a bucket or container by its URL: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`.

Credentials come from where each store's own tools take them: the environment or .env, a web identity, the instance.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from landing.core.errors import SettingError
from landing.core.settings import BUCKET, settings

# Variables that .env may set too; those of the environment are read by the library itself, with more of them.
VARIABLES = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
           "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "AWS_ROLE_ARN",
           "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SERVER_SIDE_ENCRYPTION", "AWS_SSE_KMS_KEY_ID", "AWS_REQUEST_PAYER"),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_CLIENT_ID",
           "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_STORAGE_ENDPOINT"),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY",
           "GOOGLE_BEARER_TOKEN", "GOOGLE_BASE_URL"),
}
ENDPOINTS = {"s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), "az": ("AZURE_STORAGE_ENDPOINT",),
             "gs": ("GOOGLE_BASE_URL",)}
EMULATOR = "STORAGE_EMULATOR_HOST"  # by which Google's own tools find an emulator, that asks for no credentials
KINDS = {"s3": "S3Store", "az": "AzureStore", "gs": "GCSStore"}  # the library's
NAMES = {"s3": "S3", "az": "Azure Blob Storage", "gs": "Google Cloud Storage"}
TIMEOUT = "5m"  # of one request, its body included: a part is a few MiB
RETRIES = {"max_retries": 8, "retry_timeout": timedelta(minutes=2)}


def is_url(text: str) -> bool:
    """Whether it is the URL of a bucket or container."""
    return BUCKET.fullmatch(text) is not None


@dataclass(frozen=True)
class Bucket:
    """A bucket or container, and a prefix in it."""

    scheme: str
    name: str
    prefix: str  # "" for all of it; without `/` at its ends
    values: Mapping[str, str] = field(repr=False, default_factory=settings)

    @classmethod
    def of(cls, url: str) -> Bucket:
        """Raises SettingError for what is not such a URL."""
        found = BUCKET.fullmatch(url)
        if found is None:
            raise SettingError(f"{url!r} is not the URL of a bucket. Expected s3://BUCKET/PREFIX, gs://BUCKET/PREFIX "
                               "or az://CONTAINER/PREFIX. Correct it, and run again.")
        prefix = (found[3] or "").strip("/")
        if {"", ".", ".."} & {*prefix.split("/")} and prefix:
            raise SettingError(f"{url!r} has an empty part, `.` or `..` in its path. Correct it, and run again.")
        return cls(found[1], found[2], prefix)

    @property
    def url(self) -> str:
        """Without a `/` at its end."""
        return f"{self.scheme}://{self.name}" + (f"/{self.prefix}" if self.prefix else "")

    @property
    def service(self) -> str:
        """The store's name, for messages."""
        return NAMES[self.scheme]

    def open(self, *, retry: bool = True) -> Any:
        """The obstore of all below the prefix.

        Args:
            retry: Whether a failed request is repeated: a conditional put must not be, since its second answer does
                not tell what the first one did.

        Raises:
            SettingError: A variable has a value that the library does not accept.
        """
        from obstore import store  # here: a folder needs none

        try:
            return getattr(store, KINDS[self.scheme])(
                self.name, prefix=self.prefix or None, config=self._config(), client_options=self._client(),
                retry_config=RETRIES if retry else {**RETRIES, "max_retries": 0})
        except Exception as error:
            raise SettingError(f"{self.url} cannot be opened: {first_line(error)}. Correct the variables of "
                               f"{self.service} (docs/how-to/object-stores.md), and run again.") from None

    def _config(self) -> dict[str, str]:
        config = {name.lower(): self.values[name] for name in VARIABLES[self.scheme] if self.values.get(name)}
        if self.scheme == "s3":  # content has a hash of ours; one more of each part, for its signature, takes long
            config["aws_unsigned_payload"] = self.values.get("AWS_UNSIGNED_PAYLOAD") or "true"
        if self.scheme == "gs" and (host := self.values.get(EMULATOR)):
            config["google_base_url"] = host if "://" in host else f"http://{host}"
            config.setdefault("google_bearer_token", "none")  # skip_signature asks for a token all the same
        return config

    def _client(self) -> dict[str, Any]:
        """TLS is not required of an endpoint that is configured without it."""
        endpoints = [self.values.get(name) or "" for name in ENDPOINTS[self.scheme]]
        plain = any(one.startswith("http://") for one in [*endpoints, self._config().get("google_base_url", "")])
        return {"allow_http": plain, "timeout": TIMEOUT}


def first_line(error: BaseException) -> str:
    """An error of the library in one line, without its dump, and without queries of URLs: they may be signatures."""
    line = str(error).strip().partition("\n")[0]
    line = re.sub(r"^Generic \S+ error: ", "", line)
    return re.sub(r"(https?://[^\s?]+)\?\S*", r"\1", line).rstrip(".")[:500]
