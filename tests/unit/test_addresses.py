"""Addresses are shown without their secrets, and identify the same file when they are signed anew."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.addresses import gdal_path, host_of, is_remote, opens_elsewhere, shown, unsigned
from geoseg.errors import ChunkError, ConfigError, GeosegError, OutputError, ReadError
from geoseg.redaction import cause_of, redact, redact_all, sanitized

SHOWN = {
    "https://user:SECRET@host:8443/a/b.tif?sig=SECRET#SECRET": "https://host:8443/a/b.tif",
    "https://SECRET@host/a.tif": "https://host/a.tif",
    "https:/u:SECRET@host/a.tif?SECRET": "https://host/a.tif",
    "s3://key:SECRET@bucket/a.tif": "s3://bucket/a.tif",
    "tcp://user:SECRET@10.0.0.1:8786": "tcp://10.0.0.1:8786",
    "stac+https://u:SECRET@api/v1?token=SECRET": "stac+https://api/v1",
    "/vsicurl/https://u:SECRET@host/a.tif?SECRET": "/vsicurl/https://host/a.tif",
    "/vsigzip//vsicurl/https://host/a.tif?SECRET": "/vsigzip//vsicurl/https://host/a.tif",
    "/vsicurl?url=https%3A%2F%2Fhost%3Fsig%3DSECRET": "/vsicurl?…",
    "http://[::1]:80/a.tif?SECRET": "http://[::1]:80/a.tif",
    "HTTPS://host/a.tif?SECRET": "HTTPS://host/a.tif",
    "https://host/a;token=SECRET/b.tif": "https://host/a;token=…/b.tif",
    "https://host/a b.tif?SECRET with blanks": "https://host/a b.tif",
    # What is no host may be a part of a password.
    "https://user:SECRET/with@host/a.tif": "https://…",
    "https://host:SECRET/a.tif": "https://…",
    "https://[SECRET/a.tif": "https://…",
    "postgresql+asyncpg://u:SECRET@db/prefect": "postgresql+asyncpg://db/prefect",
    "folder/a.tif": "folder/a.tif",
    "a?b#c.tif": "a?b#c.tif",
}


@pytest.mark.parametrize("address", SHOWN)
def test_shown(address: str) -> None:
    assert shown(address) == SHOWN[address]
    assert shown(shown(address)) == SHOWN[address]
    assert "SECRET" not in unsigned(address).replace("?SECRET with blanks", "").replace("?SECRET", "")


MESSAGES = {
    "'https://u:SECRET@host/a.tif?sig=SECRET' not recognized": "'https://host/a.tif' not recognized",
    "HTTP error 403 for https://host/a.tif?X-Amz-Signature=SECRET&X-Amz-Date=1.": "HTTP error 403 for https://host/a.tif.",
    "(https://host/a?SECRET), tcp://u:SECRET@h:1: lost": "(https://host/a), tcp://h:1: lost",
    "retrying /search?token=SECRET&limit=1": "retrying /search?token=…&limit=1",
    "a.tif?sig=SECRET: read failed": "a.tif?sig=…: read failed",
    "AWS_SECRET_ACCESS_KEY=SECRET AccountKey=SECRET;x": "AWS_SECRET_ACCESS_KEY=… AccountKey=…;x",
    "Authorization: Bearer SECRET": "Authorization: …",
    "{'Authorization': 'Basic SECRET'}": "{'Authorization': '…'}",
    "/vsicurl?use_head=no&url=http%3A%2F%2FSECRET: 404": "/vsicurl?…: 404",
    "1:2 of 3, key=value, --bands=red, ratio=1.5": "1:2 of 3, key=value, --bands=red, ratio=1.5",
    "see https://example.org/docs/a.html": "see https://example.org/docs/a.html",
}


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_of_libraries(message: str) -> None:
    assert redact(message) == MESSAGES[message]
    assert redact(MESSAGES[message]) == MESSAGES[message]


@pytest.mark.parametrize("kind", [GeosegError, ConfigError, OutputError, ReadError, ChunkError])
def test_no_error_holds_a_secret(kind: type[GeosegError]) -> None:
    error = kind("https://u:SECRET@h/a.tif?SECRET: it says\n\x1b[31mno")
    assert str(error) == "https://h/a.tif: it says\\n\\x1b[31mno"
    assert "SECRET" not in repr(error)


def test_secrets_of_the_environment_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY", "HF_TOKEN", "GDAL_HTTP_USERPWD"):
        monkeypatch.setenv(name, f"value of {name}")
        assert redact(f"a library prints value of {name} here") == "a library prints … here"


def test_parts_of_an_address_that_a_library_quotes_alone() -> None:
    address = "https://host/a.tif?plain-secret-without-a-name"
    assert cause_of(OSError("a.tif?plain-secret-without-a-name, band 1\nmore"), address) == "a.tif?…, band 1"
    assert cause_of(OSError("nonnumeric port: 'PASS@host'"), "http://user:PASS@host/") == "nonnumeric port: '…@host'"


def test_documents() -> None:
    document = {"a": ["https://u:SECRET@h/x?y", 1, None, {"b\ud800": "caf\udce9\nline"}], "c": 1.5}
    assert redact_all(document) == {"a": ["https://h/x", 1, None, {"b\\ud800": "caf\\xe9\nline"}], "c": 1.5}
    json.dumps(redact_all(document), ensure_ascii=False).encode()


@given(st.text(max_size=200))
def test_nothing_raises_and_all_can_be_printed(text: str) -> None:
    for address in (text, f"https://{text}", f"/vsicurl/http://{text}"):
        shown(address), host_of(address), unsigned(address), is_remote(address), opens_elsewhere(address)
    said = sanitized(text)
    assert not any(ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 for letter in said)
    said.encode()
    assert sanitized(said) == said


SIGNED = (
    (
        "https://acc.blob.core.windows.net/c/a.tif?sv=1&st={n}&se={n}&sr=b&sp=r&sig={n}",
        "https://acc.blob.core.windows.net/c/a.tif",
    ),
    (
        "https://b.s3.amazonaws.com/a.tif?X-Amz-Date={n}&X-Amz-Credential={n}&X-Amz-Signature={n}&versionId=7",
        "https://b.s3.amazonaws.com/a.tif?versionId=7",
    ),
    ("https://storage.googleapis.com/b/a.tif?X-Goog-Signature={n}&X-Goog-Expires={n}", "https://storage.googleapis.com/b/a.tif"),
    ("https://cdn/a.tif?Expires={n}&Signature={n}&Key-Pair-Id={n}", "https://cdn/a.tif"),
    ("https://user{n}:pw{n}@host/get?id=17&token={n}#{n}", "https://host/get?id=17"),
)


@pytest.mark.parametrize(("form", "identity"), SIGNED)
def test_signed_anew_is_the_same(form: str, identity: str) -> None:
    assert {unsigned(form.format(n=n)) for n in ("one", "two")} == {identity}


def test_another_file_is_not_the_same() -> None:
    assert unsigned("https://host/get?id=17&sig=x") != unsigned("https://host/get?id=18&sig=x")


def test_a_webhook_is_its_host() -> None:
    assert host_of("https://hooks.example.com/services/T0/B0/SECRET?x=SECRET") == "https://hooks.example.com/…"


DOORS = (
    "/vsicurl/http://h/a.tif",
    "/vsizip/a.zip",
    "/VSIMEM/a",
    "file:///etc/passwd",
    "ftp://h/a.tif",
    "data:image/tiff;base64,AA",
    'NETCDF:"a.nc":x',
    "GTIFF_DIR:1:a.tif",
    "GTIFF_RAW:a.tif",
    "HDF5:a.h5",
    "WMS:http://h",
    "javascript:alert(1)",
    "abfss://x/y",
)


@pytest.mark.parametrize("text", DOORS)
def test_other_doors_are_told(text: str) -> None:
    assert opens_elsewhere(text)
    assert not is_remote(text)


@pytest.mark.parametrize(
    "text", ["a.tif", "/data/a.tif", "../a.tif", "https://h/a", "s3://b/a", "AZ://b/a", "C:\\a.tif", "10:20.tif"]
)
def test_files_and_addresses_are_none(text: str) -> None:
    assert opens_elsewhere(text) is None


def test_gdal_takes_a_path_as_a_path() -> None:
    assert gdal_path("GTIFF_DIR:1:a.tif").startswith("/")
    assert gdal_path("https://h/a.tif") == "https://h/a.tif"
