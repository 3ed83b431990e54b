"""Bodies that somebody sends to break the service; each with the status it has to be answered with."""

from __future__ import annotations

import gzip
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from tests.api.helpers import tiny

JSON = {"content-type": "application/json"}
PACKED = JSON | {"content-encoding": "gzip"}


@dataclass(frozen=True)
class Hostile:
    """One body.

    Attributes:
        name: Read as "the service survives ...".
        status: What it has to be answered with.
        body: What is sent.
        headers: What it is called.
    """

    name: str
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))


def _with(place: str, raw: str) -> bytes:
    """A good request with one place of it replaced by raw text."""
    request: dict[str, Any] = {"profile": tiny(), "budgets": {"weight_bytes": 7000}, "gap": 0.0}
    *parents, last = place.split("/")
    node: Any = request
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[int(last) if isinstance(node, list) else last] = "@@"
    return json.dumps(request).replace('"@@"', raw).encode()


def _key(place: str, raw: str) -> bytes:
    """A good request with one more member, whose name is raw text."""
    request: dict[str, Any] = {"profile": tiny(), "budgets": {}, "pin": {}}
    node: Any = request
    for part in filter(None, place.split("/")):
        node = node[int(part)] if isinstance(node, list) else node[part]
    node["@@"] = 1
    return json.dumps(request).replace('"@@"', raw).encode()


def _deep() -> Iterator[Hostile]:
    for depth in (65, 1_000, 100_000, 1_000_000):
        yield Hostile(f"{depth} arrays", 400, b"[" * depth + b"]" * depth)
        yield Hostile(f"{depth} arrays that nobody closes", 400, b"[" * depth)
        yield Hostile(f"{depth} objects", 400, b'{"a":' * depth + b"1" + b"}" * depth)
    bomb = "[" * 5000 + "]" * 5000
    for place in ("profile", "profile/layers", "profile/costs/kl/values", "budgets", "gap", "profile/model"):
        yield Hostile(f"a bomb in {place}", 400, _with(place, bomb))
    yield Hostile("depth behind brackets in texts", 400, b'["]]]]",' * 5000 + b"1" + b"]" * 5000)
    yield Hostile("depth behind escaped quotes", 400, b'["\\"]]]]",' * 5000 + b"1" + b"]" * 5000)
    yield Hostile("brackets in a text", 422, _with("gap", '"' + "[" * 5000 + '"'))
    yield Hostile("closing brackets only", 400, b"]" * 100_000)


_NUMBERS = {
    "NaN": 422,
    "Infinity": 422,
    "-Infinity": 422,
    "1e400": 422,
    "-1e400": 422,
    "9" * 400: 422,
    "9" * 5000: 400,
    "-" + "9" * 5000: 400,
    "1e99999999999999999999": 422,
    "0x10": 400,
    "+1": 400,
    "01": 400,
    "1.": 400,
    ".5": 400,
    "1e": 400,
    "--1": 400,
    "1_000": 400,
    "nan": 400,
    "inf": 400,
    "1/0": 400,
    "１": 400,
}


def _numbers() -> Iterator[Hostile]:
    for raw, status in _NUMBERS.items():
        name = raw if len(raw) < 30 else f"{len(raw)} digits"
        for place in ("profile/costs/kl/values/0/1", "budgets/weight_bytes", "profile/layers/0/parameters"):
            yield Hostile(f"{name} as {place}", status, _with(place, raw))
    yield Hostile("a size beyond 64 bits", 422, _with("profile/resources/weight_bytes/values/0/0", "1e100"))
    yield Hostile("a size beyond reason", 422, _with("profile/resources/weight_bytes/values/0/0", "1e300"))
    yield Hostile("a count beyond floats", 422, _with("profile/layers/0/parameters", "1" + "0" * 400))
    yield Hostile("the smallest number there is", 200, _with("profile/costs/kl/values/0/0", "5e-324"))
    yield Hostile("less than the smallest number", 200, _with("profile/costs/kl/values/0/0", "1e-400"))
    yield Hostile("minus zero", 200, _with("profile/costs/kl/values/0/0", "-0.0"))
    yield Hostile(
        "sums that overflow", 422, _with("profile/costs/kl/values", "[[1.7e308,1.7e308],[1.7e308,1.7e308]]")
    )
    yield Hostile("a schema version beyond 64 bits", 422, _with("profile/schema_version", "9" * 100))


def _keys() -> Iterator[Hostile]:
    whole = json.dumps(tiny())
    for member in ("model", "formats", "layers", "costs", "resources"):
        yield Hostile(f"{member} twice", 400, f'{{"profile":{whole[:-1]},"{member}":null}}}}'.encode())
    yield Hostile("profile twice", 400, f'{{"profile":{whole},"profile":{whole}}}'.encode())
    yield Hostile("a budget twice", 400, _with("budgets", '{"weight_bytes":1,"weight_bytes":9e9}'))
    yield Hostile("a key twice, once escaped", 400, _with("budgets", '{"kl":1,"k\\u006c":2}'))
    yield Hostile(
        "a format twice", 400, _with("profile/formats", '{"a":{"weight_bits":4},"a":{"weight_bits":8}}')
    )
    yield Hostile("100,000 times one key", 400, _with("budgets", "{" + '"kl":1,' * 100_000 + '"kl":1}'))
    for name in ("__proto__", "constructor", "__class__", "", " ", "\\u0000", "a/b~c", "$ref", "x" * 100_000):
        shown = name if len(name) < 20 else "an endless name"
        yield Hostile(f"the member {shown!r}", 422, _key("", f'"{name}"'))
        yield Hostile(f"the member {shown!r} of a layer", 422, _key("profile/layers/0", f'"{name}"'))


def _encodings() -> Iterator[Hostile]:
    text = json.dumps({"profile": tiny()})
    for coding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-8-sig", "cp037"):
        yield Hostile(coding, 400, text.encode(coding))
    bad = {
        "latin-1": b"\xe9",
        "an overlong slash": b"\xc0\xaf",
        "an overlong zero": b"\xe0\x80\x80",
        "a surrogate in UTF-8": b"\xed\xa0\x80",
        "half a character": b"\xf0\x9f\x98",
        "more than Unicode": b"\xf5\x80\x80\x80",
        "a lone continuation": b"\x80",
        "FF FE": b"\xff\xfe",
        "a zero byte": b"\x00",
        "a bell": b"\x07",
        "a line break": b"\n",
        "a tab": b"\t",
        "an escape to nowhere": b"\\x41",
        "a cut escape": b"\\u12",
        "an octal escape": b"\\101",
        "a backslash at the end": b"\\",
    }
    for name, raw in bad.items():
        yield Hostile(f"{name} in a text", 400, _with("profile/model", '"@1"').replace(b"@1", raw))
    for raw in ("\\ud800", "\\udfff", "\\ud800\\ud800", "\\udc00\\ud800", "a\\uDBFFb"):
        yield Hostile(f"the half character {raw} as a name", 400, _with("profile/layers/0/name", f'"{raw}"'))
        yield Hostile(f"the half character {raw} as a key", 400, _key("", f'"{raw}"'))
        yield Hostile(f"the half character {raw} as a budget", 400, _with("budgets", f'{{"{raw}":1}}'))
    yield Hostile("noncharacters", 200, _with("profile/model", '"\\uffff\\ufffe\\u0000"'))
    yield Hostile("text from right to left", 200, _with("profile/model", '"\u202e\u2066\u0645"'))
    yield Hostile("a name of emoji", 200, _with("profile/layers/0/name", '"\\ud83d\\ude00"'))
    yield Hostile(
        "a hundred accents on a letter", 200, _with("profile/layers/0/name", '"e' + "\\u0301" * 100 + '"')
    )


def _texts() -> Iterator[Hostile]:
    endless = '"' + "x" * 5_000_000 + '"'
    for place in ("profile/layers/0/name", "objective", "solver", "budgets/weight_bytes"):
        yield Hostile(f"five million characters as {place}", 422, _with(place, endless))
    yield Hostile("a model called five million characters", 200, _with("profile/model", endless))
    evil = {
        "a path": "../../../../etc/passwd",
        "an absolute path": "/etc/passwd",
        "a URL": "file:///etc/passwd",
        "SQL": "'; DROP TABLE profiles; --",
        "a format string": "%s%s%s%n{0.__class__}",
        "a template": "{{7*7}}${7*7}",
        "a log line": 'x\\n{\\"level\\":\\"error\\"}',
        "a terminal escape": "\\u001b[2J",
        "HTML": "<script>alert(1)</script>",
        "JNDI": "${jndi:ldap://a/b}",
    }
    for name, raw in evil.items():
        yield Hostile(f"{name} as a layer", 200, _with("profile/layers/0/name", f'"{raw}"'))
        yield Hostile(f"{name} as a solver", 422, _with("solver", f'"{raw}"'))
    yield Hostile("a glob that backtracks", 422, _key("pin", '"' + "*a" * 250 + '"'))
    yield Hostile("a glob of brackets", 422, _key("pin", '"' + "[" * 500 + '"'))
    yield Hostile("an amount that backtracks", 422, _with("budgets/weight_bytes", '"' + "1" * 50_000 + ' "'))
    yield Hostile("an amount of spaces", 422, _with("budgets/weight_bytes", '"' + " " * 50_000 + '"'))


def _types() -> Iterator[Hostile]:
    good = json.dumps({"profile": tiny()}).encode()
    for name, given, status in (
        ("none", None, 415),
        ("text", "text/plain", 415),
        ("a form", "application/x-www-form-urlencoded", 415),
        ("many parts", "multipart/form-data; boundary=a", 415),
        ("XML", "application/xml", 415),
        ("YAML", "application/yaml", 415),
        ("a pickle", "application/python-pickle", 415),
        ("bytes", "application/octet-stream", 415),
        ("nonsense", ";;;=,,,", 415),
        ("an endless type", "a" * 4000 + "/b", 415),
        ("a JSON dialect", "application/merge-patch+json", 200),
        ("JSON in capitals", "APPLICATION/JSON", 200),
        ("JSON said to be UTF-16", "application/json; charset=utf-16", 200),
    ):
        yield Hostile(
            f"{name} as the content type", status, good, {} if given is None else {"content-type": given}
        )
    yield Hostile("a pickle", 400, b"\x80\x04\x95\x0e\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.")
    for coding in (
        "br",
        "deflate",
        "compress",
        "zstd",
        "gzip, gzip",
        "gzip;q=1",
        "identity, gzip",
        "x" * 1000,
    ):
        yield Hostile(f"the coding {coding[:20]}", 415, good, JSON | {"content-encoding": coding})


def _packed() -> Iterator[Hostile]:
    good = json.dumps({"profile": tiny()}).encode()
    whole = gzip.compress(good)
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b" " * 2**20) for _ in range(200)) + packer.flush()
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.json", good)
    yield Hostile("200 MiB of spaces in gzip", 413, bomb, PACKED)
    yield Hostile("a bomb in a bomb", 400, gzip.compress(bomb), PACKED)
    yield Hostile("a bomb after a good body", 413, whole + bomb, PACKED)
    yield Hostile("JSON said to be gzip", 400, good, PACKED)
    yield Hostile("gzip said to be JSON", 400, whole)
    yield Hostile("a ZIP file said to be gzip", 400, archive.getvalue(), PACKED)
    yield Hostile("zlib said to be gzip", 400, zlib.compress(good), PACKED)
    yield Hostile("half a gzip body", 400, whole[: len(whole) // 2], PACKED)
    yield Hostile("a gzip header alone", 400, whole[:10], PACKED)
    yield Hostile("a gzip body without its end", 400, whole[:-1], PACKED)
    yield Hostile("a gzip body with a wrong checksum", 400, whole[:-8] + b"\0" * 8, PACKED)
    yield Hostile("a gzip body with a wrong length", 400, whole[:-4] + b"\xff" * 4, PACKED)
    yield Hostile("gzip and rubbish", 400, whole + b"rubbish", PACKED)
    yield Hostile("10,000 empty gzip members", 400, gzip.compress(b"") * 10_000, PACKED)
    yield Hostile("depth in gzip", 400, gzip.compress(b"[" * 10_000_000), PACKED)
    yield Hostile("gzip of nothing", 422, gzip.compress(b""), PACKED)


def _syntax() -> Iterator[Hostile]:
    text = json.dumps({"profile": tiny(), "gap": 0.1}).encode()
    for at in (1, 2, 10, 12, 50, 100, 200, len(text) - 2, len(text) - 1):
        yield Hostile(f"the first {at} bytes of a request", 400, text[:at])
    for name, raw in {
        "a trailing comma": b'{"gap": 0.1,}',
        "no comma": b'{"gap": 0.1 "solver": "exact"}',
        "no colon": b'{"gap" 0.1}',
        "no quotes": b"{gap: 0.1}",
        "single quotes": b"{'gap': 0.1}",
        "a comment": b'{"gap": 0.1} // why',
        "two documents": b"{} {}",
        "lines of JSON": b"{}\n{}\n",
        "JavaScript": b"({})",
        "a guarded answer": b")]}',\n{}",
        "Python": b"{'gap': None}",
        "undefined": b'{"gap": undefined}',
        "True": b'{"gap": True}',
        "a key that is a number": b"{1: 2}",
        "other blanks": "\u00a0{}".encode(),
        "XML": b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
        "YAML": b"gap: !!python/object/apply:os.system ['true']",
        "a form": b"gap=0.1&solver=exact",
        "a quote": b'"',
        "zeros": bytes(1000),
    }.items():
        yield Hostile(f"{name} as a body", 400, raw)


def _shapes() -> Iterator[Hostile]:
    for name, blank in (
        ("nothing", b""),
        ("blanks", b" \t\r\n" * 1000),
        ("a million spaces", b" " * 1_000_000),
    ):
        yield Hostile(f"{name} as a body", 422, blank)
    for raw in (b"null", b"true", b"0", b'"profile"', b"[]", b"[{}]", b"{}", b'{"profile":null}'):
        yield Hostile(f"{raw.decode()} as a body", 422, raw)
    for place in (
        "profile",
        "profile/formats",
        "profile/layers",
        "profile/costs",
        "profile/costs/kl",
        "budgets",
    ):
        for raw in ("0", '"x"', "true", "[[]]" if place != "profile/layers" else "{}"):
            yield Hostile(f"{raw} as {place}", 422, _with(place, raw))
    for place in (
        "profile/layers/0",
        "profile/layers/0/name",
        "profile/costs/kl/values/0",
        "profile/formats/int4-g64",
    ):
        for raw in ("null", "1", "[]"):
            yield Hostile(f"{raw} as {place}", 422, _with(place, raw))


def _many() -> Iterator[Hostile]:
    rows = ",".join(f'{{"name":"{index}"}}' for index in range(100_001))
    yield Hostile("100,001 layers", 422, _with("profile/layers", f"[{rows}]"))
    columns = ",".join(f'"{index}":{{"weight_bits":4}}' for index in range(257))
    yield Hostile("257 formats", 422, _with("profile/formats", f"{{{columns}}}"))
    yield Hostile("six million values", 422, b"[" + b"1," * 6_000_000 + b"1]")
    yield Hostile("six million empty arrays", 422, b"[" + b"[]," * 6_000_000 + b"1]")
    yield Hostile(
        "a million empty objects as layers", 422, _with("profile/layers", "[" + "{}," * 99_999 + "{}]")
    )
    yield Hostile(
        "100,000 pins", 422, _with("pin", json.dumps({f"x{index}": "int4-g64" for index in range(100_000)}))
    )
    yield Hostile(
        "100,000 unknown members", 422, json.dumps({f"x{index}": 1 for index in range(100_000)}).encode()
    )
    yield Hostile(
        "100,000 budgets", 422, _with("budgets", json.dumps({f"x{index}": 1 for index in range(100_000)}))
    )
    yield Hostile("64 MiB and a byte", 413, b" " * (2**26 + 1))
    yield Hostile(
        "a table of 100,000 rows", 422, _with("profile/costs/kl/values", json.dumps([[1.0, 2.0]] * 100_000))
    )
    yield Hostile(
        "a row of 100,000 values", 422, _with("profile/costs/kl/values", json.dumps([[1.0] * 100_000] * 2))
    )


def corpus() -> list[Hostile]:
    """All of them.

    Returns:
        The bodies, each with a name of its own.
    """
    families = (_deep, _numbers, _keys, _encodings, _texts, _types, _packed, _syntax, _shapes, _many)
    return [hostile for family in families for hostile in family()]
