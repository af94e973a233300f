"""A server in memory that speaks the JSON API of Google Cloud Storage, as far as a run needs it.

https://cloud.google.com/storage/docs/json_api/v1
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class Objects:
    """The objects of all buckets, by (bucket, name): (generation, content)."""

    def __init__(self):
        self.lock = threading.Lock()
        self.content: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.uploads: dict[str, tuple[str, str, dict, bytes]] = {}
        self.count = 0

    def put(self, bucket, name, data, query):
        """Writes an object if it has the generation that `query` asks for; else None."""
        with self.lock:
            now = self.content.get((bucket, name), (0, b""))[0]
            wanted = query.get("ifGenerationMatch")
            if wanted is not None and int(wanted) != now:
                return None
            self.count += 1
            self.content[bucket, name] = (self.count, data)
        return self.about(bucket, name)

    def about(self, bucket, name):
        generation, data = self.content[bucket, name]
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        return {
            "kind": "storage#object",
            "bucket": bucket,
            "name": name,
            "size": str(len(data)),
            "generation": str(generation),
            "metageneration": "1",
            "md5Hash": md5,
            "etag": str(generation),
            "crc32c": "",
            "timeCreated": "2026-01-01T00:00:00.000Z",
            "updated": "2026-01-01T00:00:00.000Z",
        }

    def names(self, bucket):
        return sorted(name for of, name in self.content if of == bucket)


def _handler(objects):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_):
            pass

        def answer(self, status, body=b"", **headers):
            if not isinstance(body, bytes):
                body = json.dumps(body).encode()
                headers.setdefault("Content_Type", "application/json")
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def parsed(self):
            parts = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            return parts.path, query

        def body(self):
            if self.headers.get("Transfer-Encoding") == "chunked":
                data = b""
                while size := int(self.rfile.readline(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def do_GET(self):  # the name that http.server calls
            path, query = self.parsed()
            path = path.removeprefix("/download")
            if match := re.fullmatch(r"/storage/v1/b/([^/]+)/o", path):
                return self.answer(200, self.listing(match[1], query))
            if match := re.fullmatch(r"/storage/v1/b/([^/]+)/o/(.+)", path):
                return self.read(match[1], unquote(match[2]), query)
            if match := re.fullmatch(r"/storage/v1/b/([^/]+)(/storageLayout)?", path):
                return self.answer(200, {"name": match[1], "kind": "storage#bucket"})
            return self.answer(404, {"error": {"code": 404, "message": path}})

        def read(self, bucket, name, query):
            if (bucket, name) not in objects.content:
                return self.answer(404, {"error": {"code": 404, "message": "no such object"}})
            generation, data = objects.content[bucket, name]
            wanted = query.get("ifGenerationMatch")
            if wanted is not None and int(wanted) != generation:
                return self.answer(412, {"error": {"code": 412, "message": "generation"}})
            if query.get("alt") != "media":
                return self.answer(200, objects.about(bucket, name))
            if query.get("ifGenerationNotMatch") == str(generation):
                return self.answer(304)
            status, extra = 200, {"x_goog_generation": str(generation)}
            if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                first, last = int(match[1]), int(match[2] or len(data) - 1)
                if first >= len(data):
                    return self.answer(416)
                last = min(last, len(data) - 1)
                extra["Content_Range"] = f"bytes {first}-{last}/{len(data)}"
                status, data = 206, data[first : last + 1]
            return self.answer(status, data, **extra)

        def listing(self, bucket, query):
            prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
            start, end = query.get("startOffset", ""), query.get("endOffset")
            items, prefixes = [], {}
            for name in objects.names(bucket):
                if not name.startswith(prefix) or name < start or (end and name >= end):
                    continue
                rest = name[len(prefix) :]
                if delimiter and delimiter in rest:
                    prefixes[prefix + rest.split(delimiter)[0] + delimiter] = None
                else:
                    items.append(objects.about(bucket, name))
            return {"kind": "storage#objects", "items": items, "prefixes": list(prefixes)}

        def do_POST(self):
            path, query = self.parsed()
            if "upload_id" in query:
                return self.do_PUT()
            data = self.body()
            if match := re.fullmatch(r"/upload/storage/v1/b/([^/]+)/o", path):
                return self.upload(match[1], data, query)
            if match := re.fullmatch(
                r"/storage/v1/b/([^/]+)/o/(.+)/(?:rewriteTo|copyTo)/b/([^/]+)/o/(.+)", path
            ):
                source = match[1], unquote(match[2])
                if source not in objects.content:
                    return self.answer(404, {"error": {"code": 404, "message": "no source"}})
                about = objects.put(match[3], unquote(match[4]), objects.content[source][1], query)
                return self.answer(
                    200, {"done": True, "resource": about} if "/rewriteTo/" in path else about
                )
            if match := re.fullmatch(r"/storage/v1/b/([^/]+)/o/(.+)/moveTo/o/(.+)", path):
                bucket, source, target = match[1], unquote(match[2]), unquote(match[3])
                if (bucket, source) not in objects.content:
                    return self.answer(404, {"error": {"code": 404, "message": "no source"}})
                about = objects.put(bucket, target, objects.content[bucket, source][1], query)
                del objects.content[bucket, source]
                return self.answer(200, about)
            return self.answer(404, {"error": {"code": 404, "message": path}})

        def upload(self, bucket, data, query):
            if query["uploadType"] == "resumable":
                name = query.get("name") or json.loads(data)["name"]
                key = f"{len(objects.uploads)}"
                objects.uploads[key] = (bucket, name, query, b"")
                host = self.headers["Host"]
                return self.answer(
                    200, Location=f"http://{host}/upload/storage/v1/b/{bucket}/o?upload_id={key}"
                )
            name = query.get("name")
            if query["uploadType"] == "multipart":
                boundary = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])[1]
                _, about, content, _ = data.split(b"--" + boundary.encode())
                name = json.loads(
                    about.split(b"\n\n" if b"\r" not in about else b"\r\n\r\n", 1)[1]
                )["name"]
                separator = b"\r\n\r\n" if b"\r\n\r\n" in content else b"\n\n"
                data = content.split(separator, 1)[1]
                data = data.removesuffix(b"\n").removesuffix(b"\r")
            return self.stored(bucket, name, data, query)

        def do_PUT(self):
            _, query = self.parsed()
            key = query["upload_id"]
            bucket, name, first_query, before = objects.uploads[key]
            data = before + self.body()
            size = self.headers.get("Content-Range", "").rpartition("/")[2]
            if size == "*" or (size and int(size) > len(data)):
                objects.uploads[key] = (bucket, name, first_query, data)
                return self.answer(308, Range=f"bytes=0-{len(data) - 1}")
            return self.stored(bucket, name, data, first_query)

        def stored(self, bucket, name, data, query):
            about = objects.put(bucket, name, data, query)
            if about is None:
                return self.answer(412, {"error": {"code": 412, "message": "generation"}})
            return self.answer(200, about)

        def do_DELETE(self):
            path, query = self.parsed()
            match = re.fullmatch(r"/storage/v1/b/([^/]+)/o/(.+)", path)
            key = match[1], unquote(match[2])
            with objects.lock:
                if key not in objects.content:
                    return self.answer(404, {"error": {"code": 404, "message": "no such object"}})
                wanted = query.get("ifGenerationMatch")
                if wanted is not None and int(wanted) != objects.content[key][0]:
                    return self.answer(412, {"error": {"code": 412, "message": "generation"}})
                del objects.content[key]
            return self.answer(204)

    return Handler


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Says nothing: clients close connections before they have read all."""


class Server:
    """The server, on a free port, in `with`; `url` is its address, `objects` what it holds."""

    def __enter__(self):
        self.objects = Objects()
        self._server = _QuietServer(("127.0.0.1", 0), _handler(self.objects))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
