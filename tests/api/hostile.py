"""Requests that nobody means: hostile times, encodings, ids, cursors, headers and bodies, as bytes."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from itertools import product

from tests.api.door import FULFIL

ID = b"01JQ0000000000000000000000"
EVENT = b'{"name":"x"}'
SLUG = FULFIL.encode()

Headers = Sequence[tuple[bytes, bytes]]
Request = tuple[bytes, bytes]
"""What it is, for the failure; and its bytes."""

WORDS = (
    b"",
    b"%00",
    b"%FF",
    b"%ED%A0%80",
    b"%2F",
    b"%2e%2e",
    b"%",
    b"%zz",
    b"%0d%0aX:y",
    b"%F0%9F%92%A9",
    b"%C2%80",
    b"\xff",
    b"a" * 5_000,
    b"%27%20or%201=1",
    b"null",
    b"NaN",
    b"..",
    ID,
    b"7ZZZZZZZZZZZZZZZZZZZZZZZZZ",
    b"Z" * 26,
    b"0",
    b"-1",
    b"9" * 14,
    b"9" * 15,
    b"9" * 19,
    b"9" * 20,
    b"9" * 400,
    b"1e9",
    b"1_000",
    b"%2B1",
    b"%D9%A3",
    b"%C2%B2",
    b"0:1",
    b"0:9999999999999999999",
    b"99999:1",
    b"1767225600",
    b"1767225600000000",
    b"0001-01-01",
    b"0001-01-01T00:00:00%2B23:59",
    b"9999-12-31T23:59:59-23:59",
    b"2026-01-01T00:00:00%2B99:99",
    b"2026-W01-1",
    b"24:00",
)
PATHS = (
    (b"GET", b"/v1/events/%s", b""),
    (b"GET", b"/v1/events/%s/runs", b""),
    (b"GET", b"/v1/runs/%s", b""),
    (b"DELETE", b"/v1/runs/%s", b""),
    (b"DELETE", b"/v0/runs/%s", b""),
    (b"GET", b"/v1/runs/%s/jobs", b""),
    (b"GET", b"/v0/runs/%s/actions", b""),
    (b"GET", b"/v0/runs/%s/batch", b""),
    (b"GET", b"/v1/apps/%s/functions", b""),
    (b"POST", b"/v1/runs/%s/metadata", b"{}"),
    (b"POST", b"/invoke/%s", b"{}"),
    (b"POST", b"/e/%s", EVENT),
    (b"OPTIONS", b"/e/%s", b""),
    (b"POST", b"/api/functions/%s/backfill", b'{"topic":"events"}'),
    (b"DELETE", b"/api/scans/%s", b""),
    (b"DELETE", b"/fn/remove?url=%s", b""),
    (b"DELETE", b"/v1/cancellations/%s", b""),
    (b"GET", b"/%s", b""),
)
QUERIES = {
    b"/v1/events": (b"name", b"received_after", b"limit", b"cursor", b"after"),
    b"/api/runs": (
        b"status",
        b"function",
        b"app",
        b"event",
        b"event_name",
        b"from",
        b"to",
        b"limit",
        b"cursor",
        b"after",
    ),
    b"/api/folded?lane=0&offset=0": (b"lane", b"offset"),
    b"/v1/runs/" + ID: (b"after",),
    b"/api/scans": (b"after", b"limit"),
    b"/": (b"status", b"cursor"),
}
BODIES = (
    b"",
    b"   ",
    b"\xff",
    b"\xef\xbb\xbf" + EVENT,
    b"\x1f\x8b",
    b"null",
    b"1",
    b'"x"',
    b"[null]",
    b"[[]]",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"name":"x","data":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
    EVENT + b" more",
    b'{"name":"\\ud800"}',
    b'{"name":"x","id":"\\ud800"}',
    b'{"name":"x","key":"\\udc00"}',
    b'{"name":"x","v":"\\udc00"}',
    b'{"name":"x","data":{"a":"\\ud800"}}',
    b'{"\\ud800":1,"name":"x"}',
    b'{"name":"x\\u0000y","id":"\\u0000"}',
    b'[{"name":"x"},{"name":"\\ud800"}]',
    b'{"name":null}',
    b'{"name":1}',
    b'{"name":"x","data":[]}',
    b'{"name":"x","user":1}',
    b'{"name":"x","ts":1e400}',
    b'{"name":"x","ts":-1}',
    b'{"name":"x","ts":99999999999999999999}',
    b'{"name":"x","ts":1.5}',
    b'{"name":"x","data":{"a":NaN}}',
    b'{"name":"x","data":{"a":1e999}}',
    b'{"name":"x","data":{"a":' + b"9" * 5_000 + b"}}",
    b'{"name":"' + b"x" * 300_000 + b'"}',
    b'{"data":{"a":"\\ud800"}}',
    b'{"data":{"a":1e999}}',
    b'{"user":{"a":NaN}}',
)
FIELDS = (
    b'"\\ud800"',
    b'"\\u0000"',
    b'""',
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"-1",
    b"1e400",
    b"9223372036854775807",
    b"9" * 23,
    b'"latest"',
    b'"../events"',
    b'"' + b"x" * 60_000 + b'"',
    b'"9999-12-31T23:59:59-23:59"',
    b'"0001-01-01T00:00:00+23:59"',
    b'"999999999999999"',
    b"1767225600",
)
HEADERS = (
    (b"Host", b"\xf5"),
    (b"Host", b"evil\xff.example"),
    (b"Origin", b"http://\xf5"),
    (b"Content-Type", b"\xff"),
    (b"x-inngest-event-id-seed", b"\xff"),
    (b"x-inngest-event-id-seed", b"9" * 5_000),
    (b"x-inngest-event-id-seed", b"999999999999999,AAAAAAAAAAAAAA=="),
    (b"x-inngest-event-id-seed", b"281474976710655,/////////////w=="),
    (b"Authorization", b"Bearer \xff"),
    (b"Origin", b"\xff\xfe"),
    (b"Origin", b"a\x01b"),
    (b"Content-Type", b"a; charset=\xff"),
    (b"Content-Type", b"application/json; charset=utf-99"),
    (b"Content-Length", b"-1"),
    (b"Content-Length", b"9" * 20),
    (b"Transfer-Encoding", b"gzip"),
    (b"Expect", b"200-ok"),
    (b"Expect", b"\xf5\xff"),
    (b"Access-Control-Request-Headers", b"\xff" * 2_000),
    (b"Access-Control-Request-Headers", b"a\x0bb"),
    (b"Upgrade", b"websocket"),
    (b"X-" + b"a" * 9_000, b"1"),
    (b"If-None-Match", b'"\xff"'),
    (b"Range", b"bytes=9-1"),
    (b"If-Modified-Since", b"\xff"),
)
GZIPPED = gzip.compress(EVENT, mtime=0)
ENCODED = (EVENT, GZIPPED, GZIPPED[:-6], GZIPPED[:12], GZIPPED + b"zz", b"", zlib.compress(EVENT), GZIPPED * 2)
ENCODINGS = (b"gzip", b"GZIP", b"deflate", b"br", b"zstd", b"x", b"identity", b"gzip, gzip", b"\xff")
CHUNKED = (
    b"zz\r\n",
    b"FFFFFFFFFFFFFFFFF\r\n",
    b"-1\r\n",
    b"0\r\nbad trailer\r\n\r\n",
    b"c\r\n" + EVENT + b"\r\n0\r\n\r\n",
    b"d\r\n" + EVENT + b"\r\n0\r\n\r\n",
)
POSTED_TO = (
    b"/e/K",
    b"/invoke/" + SLUG,
    b"/api/functions/" + SLUG + b"/backfill",
    b"/v0/gql",
    b"/fn/register",
    b"/v1/signals",
    b"/v1/cancellations",
    b"/v1/traces/userland",
)
ASKED = (
    b'{ run(runID: \\"%s\\") { id trace { childrenSpans { outputID } } } }',
    b'{ event(query: {eventId: \\"%s\\"}) { functionRuns { id } } }',
    b'{ eventV2(id: \\"%s\\") { raw } runTraceSpanOutputByID(outputID: \\"%s\\") { data } }',
    b"{ eventV2(id: %s) { raw } }",
    b"{ %s }",
    b"query A($a: String!) { run(runID: $a) { id } } %s",
)
METHODS = (b"TRACE", b"CONNECT", b"PATCH", b"PUT", b"HEAD", b"x", b"PROPFIND", b"G\xc3T")
TARGETS = (b"/e/K", b"/v1/runs/x", b"/", b"*", b"http://elsewhere/", b"//x", b"/metrics", b"/readyz", b"/a?b#c", b"x")


def sent(method: bytes, target: bytes, headers: Headers = (), body: bytes = b"") -> Request:
    lines = [method + b" " + target + b" HTTP/1.1", *(name + b": " + value for name, value in headers)]
    if not any(name == b"Host" for name, _ in headers):
        lines.insert(1, b"Host: x")
    lengths = {b"content-length", b"transfer-encoding"}
    if (body or method == b"POST") and not lengths & {name.lower() for name, _ in headers}:
        lines.append(b"Content-Length: %d" % len(body))
    if method == b"POST" and not target.startswith(b"/e/"):
        lines.append(b"X-Millstream: 1")  # Else what acts is refused before anything else is looked at.
    what = b" ".join(
        [method, target[:80], b", ".join(name[:40] + b": " + value[:40] for name, value in headers), body[:60]]
    )
    return what, b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body


def paths() -> Iterator[Request]:
    for (method, path, body), word in product(PATHS, WORDS):
        yield sent(method, path % word, (), body)


def queries() -> Iterator[Request]:
    for path, names in QUERIES.items():
        for name, word in product(names, WORDS):
            yield sent(b"GET", path + (b"&" if b"?" in path else b"?") + name + b"=" + word)


def bodies() -> Iterator[Request]:
    for path, body in product(POSTED_TO, BODIES):
        yield sent(b"POST", path, (), body)
    for query, word in product(ASKED, WORDS):
        yield sent(b"POST", POSTED_TO[3], (), b'{"query":"' + query.replace(b"%s", word) + b'"}')
    for value in FIELDS:
        yield sent(
            b"POST",
            POSTED_TO[3],
            (),
            b'{"query":"query($a: String!) { run(runID: $a) { id } }","variables":{"a":' + value + b"}}",
        )
        yield sent(
            b"POST",
            POSTED_TO[3],
            (),
            b'{"query":"{ apps { id } }","variables":' + value + b',"operationName":' + value + b"}",
        )
    for field, value in product((b"topic", b"from", b"to", b"scan", b"dry_run"), FIELDS):
        wanted = b'{"topic":"events","dry_run":true,"' + field + b'":' + value + b"}"
        yield sent(b"POST", POSTED_TO[2], (), wanted)


def encodings() -> Iterator[Request]:
    for path, encoding, body in product(POSTED_TO, ENCODINGS, ENCODED):
        yield sent(b"POST", path, [(b"Content-Encoding", encoding)], body)
    for path, body in product(POSTED_TO, CHUNKED):
        yield sent(b"POST", path, [(b"Transfer-Encoding", b"chunked")], body)


def headers() -> Iterator[Request]:
    calls = [
        (b"POST", b"/e/K"),
        (b"POST", b"/invoke/" + SLUG),
        (b"OPTIONS", b"/e/K"),
        (b"GET", b"/v1/events"),
        (b"GET", b"/metrics"),
        (b"GET", b"/"),
    ]
    for header, (method, path) in product(HEADERS, calls):
        yield sent(method, path, [header], EVENT if method == b"POST" else b"")


def methods() -> Iterator[Request]:
    for method, target in product(METHODS, TARGETS):
        yield sent(method, target)
