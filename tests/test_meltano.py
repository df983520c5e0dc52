"""What `meltano run` itself does around our plugins: connections, files and runs of its own."""

import os
import socket

import pytest

DAY = "2024-01-20"


def test_no_command_asks_anybody_for_newer_versions(shop, tmp_path_factory, monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with socket.create_server(("127.0.0.1", 0)) as recorder:
        recorder.setblocking(False)
        proxy = f"http://127.0.0.1:{recorder.getsockname()[1]}"
        outside = {name: proxy for kind in ("http_proxy", "https_proxy", "all_proxy") for name in (kind, kind.upper())}
        # The answer of the last time would be kept for a day.
        variables = {**outside, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
        shop.meltano("run", "extract_csv", MELTANO_ENVIRONMENT="extract", DATESTAMP=DAY, **variables)
        shop.meltano("invoke", "landing", "list", **variables)
        with pytest.raises(BlockingIOError):
            recorder.accept()
