"""Addresses in messages: no credentials, no query, no fragment."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from geoseg.scenes.remote import is_remote, shown

SECRETS = ("hunter2", "AKIAEXAMPLE", "sig%3Dabc", "token-123")


@pytest.mark.parametrize("scheme", ["http", "https", "s3", "gs", "HTTPS"])
@pytest.mark.parametrize("port", ["", ":8443"])
def test_nothing_secret_is_shown(scheme: str, port: str) -> None:
    user, password, signature, fragment = SECRETS[1], SECRETS[0], SECRETS[2], SECRETS[3]
    address = f"{scheme}://{user}:{password}@example.org{port}/a/b%20c.tif?X-Signature={signature}&x=1#{fragment}"
    text = shown(address)
    assert is_remote(address)
    assert not any(secret in text for secret in SECRETS)
    assert "@" not in text
    parts = urlsplit(text)
    assert (parts.hostname, parts.path, parts.query, parts.fragment) == ("example.org", "/a/b%20c.tif", "", "")
    assert (parts.username, parts.password) == (None, None)
    assert parts.port == (8443 if port else None)


def test_paths_are_shown_as_they_are() -> None:
    for path in ("/data/a?b#c.tif", "relative/x@y.tif", "C:/a.tif"):
        assert not is_remote(path)
        assert shown(path) == path
