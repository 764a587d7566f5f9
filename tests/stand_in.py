"""What stands in on loopback for services that can't be had in a test: an S3 endpoint, and a STAC API."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

LONG_AGO = "Mon, 01 Jan 2024 00:00:00 GMT"


def s3_settings(address: str) -> dict[str, str]:
    """The environment in which GDAL and obstore take the stand-in for S3."""
    return {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": f"http://{address}",
        "AWS_S3_ENDPOINT": address,
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_ALLOW_HTTP": "true",
    }


@contextmanager
def services(root: Path) -> Iterator[str]:
    """A server that is both: an S3 endpoint whose buckets are the folders below ``root``, and a STAC API of ``root / in``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            del args

        def _answer(self, code: int, body: bytes, kind: str, **headers: str) -> None:
            self.send_response(code)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.startswith("/stac"):
                return self._search()
            bucket = root / unquote(urlsplit(self.path).path).strip("/")
            keys = re.findall(r"<Key>(.*?)</Key>", body.decode())
            for key in keys:
                (bucket / key).unlink(missing_ok=True)
            deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            return self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode(), "application/xml")

        def do_PUT(self) -> None:
            path = root / unquote(urlsplit(self.path).path).strip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(200, b"", "text/plain", ETag='"1"')

        def do_DELETE(self) -> None:
            (root / unquote(urlsplit(self.path).path).strip("/")).unlink(missing_ok=True)
            self._answer(204, b"", "text/plain")

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path.startswith("/stac"):
                return self._search() if parts.path.endswith("/search") else self._landing()
            query, path = parse_qs(parts.query), root / unquote(parts.path).strip("/")
            if "list-type" in query:
                return self._list(path, query.get("prefix", [""])[0])
            if not path.is_file():
                return self._answer(404, b"", "text/plain")
            return self._part(path.read_bytes())

        def _part(self, data: bytes) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if asked is None:
                return self._answer(200, data, "image/tiff", Accept_Ranges="bytes", ETag='"1"', Last_Modified=LONG_AGO)
            first, last = int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)
            place = {"Content_Range": f"bytes {first}-{last}/{len(data)}"}
            return self._answer(206, data[first : last + 1], "image/tiff", ETag='"1"', Last_Modified=LONG_AGO, **place)

        def _list(self, bucket: Path, prefix: str) -> None:
            files = sorted(p for p in bucket.rglob("*") if p.is_file() and p.relative_to(bucket).as_posix().startswith(prefix))
            rows = "".join(
                f"<Contents><Key>{p.relative_to(bucket).as_posix()}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
                f'<ETag>"{p.stat().st_mtime_ns}"</ETag><Size>{p.stat().st_size}</Size></Contents>'
                for p in files
            )
            body = f"<ListBucketResult><Name>{bucket.name}</Name><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
            self._answer(200, body.encode(), "application/xml")

        def _landing(self) -> None:
            root = f"http://127.0.0.1:{self.server.server_port}/stac"
            links = [{"rel": "self", "href": root}, {"rel": "root", "href": root}, {"rel": "search", "href": f"{root}/search"}]
            conforms = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
            landing = {"type": "Catalog", "stac_version": "1.0.0", "id": "stand-in", "description": "a test", "links": links}
            self._answer(200, json.dumps(landing | {"conformsTo": conforms}).encode(), "application/json")

        def _search(self) -> None:
            base = f"http://127.0.0.1:{self.server.server_port}/in"
            items = [
                {
                    "type": "Feature",
                    "stac_version": "1.0.0",
                    "id": path.stem,
                    "geometry": None,
                    "links": [],
                    "collection": "c",
                    "properties": {"datetime": "2023-05-06T00:00:00Z", "eo:cloud_cover": 80 if "cloudy" in path.name else 3},
                    "assets": {"visual": {"href": f"{base}/{path.name}"}},
                }
                for path in sorted((root / "in").glob("*.tif"))
            ]
            body = json.dumps({"type": "FeatureCollection", "features": items, "links": []}).encode()
            self._answer(200, body, "application/geo+json")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
