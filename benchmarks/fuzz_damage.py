"""What ``fuzz.py`` does to a file: bits, pieces, header fields, values of JSON, cells of a GeoPackage."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import re
import sqlite3
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

#: Numbers that break things.
NUMBERS = [0, 1, -1, 2, 3, 7, 255, 256, 65535, 65536, 10**6, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 10**30]
TEXTS = [
    "", " ", "nan", "NaN", "inf", "-inf", "1e999", "-0", "0x10", "null", "\0", "../../x", "/etc/passwd",
    "CON", "<script>alert(1)</script>", "é", "日本", "\u202e", "'", '"', "\n", "-rf", "%s%n", "EPSG:0",
    "EPSG:99999999",    "http://127.0.0.1:9/x.tif", "/vsicurl/http://127.0.0.1:9/x.tif",
    "9999-99-99T99:99:99Z", "a" * 5000,
]  # fmt: skip
VALUES: list[Any] = [None, True, False, [], {}, [[]], {"a": {}}, 1.5, -1e308, 1e308, *NUMBERS, *TEXTS]


def damaged(content: bytes, other: bytes, suffix: str, rng: random.Random) -> bytes:
    """Return a file with one to four kinds of damage."""
    text = suffix in (".vrt", ".csv", ".json", ".jsonl", ".geojson", ".toml", ".gml")
    ways: list[Callable[[bytes, bytes, random.Random], bytes]] = [flip, cut, splice, blank]
    if text:
        ways = [*ways, token, token, token, repeat, nest]
    if suffix in (".json", ".jsonl", ".geojson"):
        ways = [*ways, value, value, value, value, value]
    if suffix in (".tif", ".tiff"):
        ways = [*ways, field, field, field, field]
    if suffix == ".jp2":
        ways = [*ways, head, head]
    if suffix == ".gpkg":
        ways = [*ways, row, row, row, row]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        with contextlib.suppress(ValueError, struct.error, IndexError, sqlite3.Error, RecursionError):
            content = rng.choice(ways)(content, other, rng)
    return content


def flip(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Flip bits."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Cut the end off."""
    return content[: rng.randrange(len(content) + 1)]


def splice(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Put a piece of another file in place of one's own, or between."""
    begin = rng.randrange(len(other))
    piece = other[begin : begin + rng.choice((1, 4, 16, 256))]
    start = rng.randrange(len(content))
    return content[:start] + piece + content[start + len(piece) * rng.randrange(2) :]


def blank(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Make a stretch all zeros or ones."""
    start, length = rng.randrange(len(content)), rng.choice((1, 2, 4, 8, 64))
    return content[:start] + rng.choice((b"\0", b"\xff")) * length + content[start + length :]


def head(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Write a number that breaks things into the first bytes."""
    start, number = rng.randrange(min(300, len(content))), rng.choice(NUMBERS) % 2**32
    return content[:start] + struct.pack(">I", number) + content[start + 4 :]


def field(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Change tag, type, count or value of an entry of a TIFF's first directory."""
    order = "<" if content[:2] == b"II" else ">"
    big = struct.unpack(order + "H", content[2:4])[0] == 43
    offset = struct.unpack(order + ("Q" if big else "I"), content[8:16] if big else content[4:8])[0]
    size, wide = (20, 8) if big else (12, 4)
    count = struct.unpack(order + ("Q" if big else "H"), content[offset : offset + (8 if big else 2)])[0]
    entry = offset + (8 if big else 2) + size * rng.randrange(count)
    what = rng.randrange(6)
    at, length = {0: (0, 2), 1: (2, 2), 2: (4, wide)}.get(what, (4 + wide, wide))
    number = rng.choice(NUMBERS) % 2 ** (8 * length)
    packed = struct.pack(order + {2: "H", 4: "I", 8: "Q"}[length], number)
    return content[: entry + at] + packed + content[entry + at + length :]


def token(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Put something else in place of a number or word."""
    words = list(re.finditer(rb"[\w.+-]+", content))
    chosen = rng.choice(words)
    new = str(rng.choice(VALUES)).encode("utf-8", "replace")
    return content[: chosen.start()] + new + content[chosen.end() :]


def repeat(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Repeat a line or what stands between two brackets."""
    begin = rng.randrange(len(content))
    piece = content[begin : begin + rng.choice((10, 80, 400))]
    return content[:begin] + piece * rng.choice((2, 3, 100)) + content[begin + len(piece) :]


def nest(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Open many brackets."""
    begin = rng.randrange(len(content))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"<a>", b"</a>"), (b'"', b'"')))
    depth = rng.choice((10, 1000, 100_000))
    return content[:begin] + opening * depth + b"1" + closing * depth * rng.randrange(2) + content[begin:]


def value(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Put another value somewhere into JSON, remove one, or give one twice."""
    lines = content.decode().splitlines() if b"}\n{" in content else [content.decode()]
    number = rng.randrange(len(lines))
    document = json.loads(lines[number])
    node, trail = document, []
    while isinstance(node, dict | list) and node and (not trail or rng.random() < 0.8):
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        trail.append((node, key))
        node = node[key]
    holder, key = rng.choice(trail)
    what = rng.randrange(8)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, dict):
        holder[rng.choice(TEXTS)] = copy.deepcopy(holder[key])
    elif what == 2 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    else:
        holder[key] = copy.deepcopy(rng.choice(VALUES))
    lines[number] = json.dumps(document)
    return "\n".join(lines).encode("utf-8", "replace")


def row(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Change a value in a table of a GeoPackage."""
    with tempfile.NamedTemporaryFile(suffix=".gpkg") as file:
        Path(file.name).write_bytes(content)
        with contextlib.closing(sqlite3.connect(file.name)) as base:
            for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                base.execute(f'DROP TRIGGER "{name}"')
            tables = ["gpkg_contents", "gpkg_geometry_columns", "gpkg_spatial_ref_sys", "r", "r"]
            table = rng.choice(tables)
            columns = [info[1] for info in base.execute(f'PRAGMA table_info("{table}")')]
            column = "geom" if table == "r" and rng.random() < 0.8 else rng.choice(columns)
            rows = base.execute(f'SELECT rowid, "{column}" FROM "{table}"').fetchall()
            rowid, old = rng.choice(rows)
            new: Any = rng.choice([None, *[n for n in NUMBERS if n < 2**63], *TEXTS])
            if isinstance(old, bytes):
                shape = bytearray(old)
                at = rng.randrange(8, len(shape) - 8)
                number = rng.choice((np.nan, np.inf, -1e308, 1e30, 0.0))
                shape[at : at + 8] = rng.choice((struct.pack("<d", number), struct.pack("<II", 1, 10**9)))
                new = bytes(shape)
            base.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (new, rowid))
            base.commit()
        return Path(file.name).read_bytes()
