"""What reaches a terminal, a log and the files of a run: no control character, no credentials."""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from commands import MakePair, scene
from conftest import write_mask

SECRET = "S3CR3T"
CLI = Path(__file__).resolve().parents[2] / "geocd" / "cli"


def test_commands_print_in_one_way_only() -> None:
    """``echo`` escapes; click's own is for scripts of click's and the line of progress."""
    uses = {
        path.name
        for path in CLI.glob("*.py")
        if re.search(r"click\.(s?echo|secho|echo_via_pager)\(|\bprint\(", path.read_text())
    }
    assert uses == {"console.py", "completion.py", "batch.py"}


def on_terminal(*arguments: object, cwd: Path) -> bytes:
    """Run geocd on a pseudo-terminal, and return every byte that arrives there."""
    import pty

    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "geocd", *map(str, arguments)],
        stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=os.environ | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(slave)
    output = b""
    while True:
        try:
            piece = os.read(master, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        output += piece
    os.close(master)
    process.wait()
    return output


EVIL = "\x1b]0;owned\x07\x1b[31m\x9b2J"


@pytest.mark.skipif(sys.platform != "linux", reason="names of files and pseudo-terminals of Linux")
def test_no_control_character_of_a_name_arrives_on_a_terminal(
    make_pair: MakePair, tmp_path: Path, cluster: str
) -> None:
    before, after = make_pair(*scene(height=64, width=72), names=(EVIL, "green", f"n{EVIL}ir"))
    before = before.rename(tmp_path / f"a{EVIL}.tif")
    (tmp_path / "pairs.csv").write_text(
        f"id,before,after\np0,{before.name},{after.name}\np1,no{EVIL},b.tif\n"
    )
    (tmp_path / f"item{EVIL}.json").write_text("{}")
    (tmp_path / "batch").mkdir()
    commands = [
        ("-vv", "detect", before, after, "-o", tmp_path / f"o{EVIL}", "--method", "cva"),
        ("detect", before, after, "-o", tmp_path / f"o{EVIL}", "--method", "cva"),  # exists
        ("check", before, after),
        ("check", f"no{EVIL}", after),
        ("batch", "pairs.csv", "batch", "--method", "cva", "--scheduler", cluster),
        ("batch", "--status", "batch"),
        ("batch", f"no{EVIL}.csv", "batch"),
        ("rerun", f"item{EVIL}.json"),
        ("evaluate", before, after),
        ("polygonize", before),
        ("env",),
        ("check", "--bidx", EVIL, before, after),
        (f"cmd{EVIL}",),
        ("detect", f"--opt{EVIL}"),
    ]  # fmt: skip
    for command in commands:
        output = on_terminal(*command, cwd=tmp_path)
        # what is left after geocd's own progress: the line cleared, the cursor hidden and shown
        output = re.sub(rb"\r\x1b\[K|\x1b\[\?25[lh]", b"", output)
        assert b"\x1b" not in output, (command, output)
        assert b"\x07" not in output, (command, output)
        assert b"\xc2\x9b" not in output, (command, output)
        if any(EVIL in str(argument) for argument in command) and "detect" not in command:
            assert b"\\x1b" in output, (command, output)
    environment = on_terminal("-v", "env", cwd=tmp_path)
    assert b"rasterio" in environment


BUG = """
import sys, threading
from geocd import check
from geocd.cli import main
class Doubtful:
    def __del__(self): raise ValueError("deleted {evil}")
def fail(*paths, **options):
    Doubtful()
    thread = threading.Thread(target=lambda: 1 / len("{evil}"[:0]))
    thread.start(); thread.join()
    raise KeyError("a.tif {evil} https://me:{secret}@host/a.tif")
check.check_pair = fail
main(["check", "a.tif", "b.tif"])
"""


def test_a_bug_is_named_as_one_without_control_characters_and_credentials() -> None:
    code = BUG.format(evil=EVIL.encode("unicode_escape").decode(), secret=SECRET)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    for error in ("ZeroDivisionError: division", "KeyError: ", "ValueError: deleted"):
        assert error in done.stderr
    assert not re.search(r"[\x1b\x07\x9b]", done.stderr)
    assert SECRET not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: KeyError, which geocd did not expect: this is a bug. Please report it")
    assert "geocd env" in last


FORMS = [
    "http://user:{}@HOST/{name}",
    "http://HOST/{name}?sig={}",
    "http://HOST/{name}?a=1&token={}",
    "http://HOST/{name}?password={}",
    "http://HOST/{name}?X-Amz-Credential=a&X-Amz-Signature={}",
    "/vsicurl/http://user:{}@HOST/{name}",
    "/vsicurl/http://HOST/{name}?token={}",
    "/vsicurl?use_head=no&url=http%3A%2F%2FHOST%2F{name}%3Fsig%3D{}",
    "/vsicurl?header.Authorization=Bearer%20{}&url=http%3A%2F%2FHOST%2F{name}",
    "GTIFF_DIR:1:/vsicurl/http://user:{}@HOST/{name}",
    "zip+http://user:{}@HOST/pack.zip!{name}",
    "/vsis3/bucket/{name}?AWS_SECRET_ACCESS_KEY={}",
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serve a folder without a line for each request."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def host(make_pair: MakePair, tmp_path: Path) -> Iterator[str]:
    """Serve a pair, and give the address."""
    before, _ = make_pair(*scene(height=64, width=72), folder="served")
    write_mask(before.with_name("valid.tif"), before)
    folder = str(tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def filled(form: str, host: str, name: str) -> str:
    return form.format(SECRET, SECRET, name=name).replace(
        "HOST", host.replace(":", "%3A") if "%2FHOST" in form else host
    )


def leaks(folder: Path) -> list[str]:
    """Return the files that hold the secret; the sources of a VRT are needed to read it (docs/batch.md)."""
    contents = ((path, path.read_bytes()) for path in folder.rglob("*") if path.is_file())
    return [path.name for path, content in contents if SECRET.encode() in re.sub(_SOURCE, b"", content)]


_SOURCE = rb"<SourceFilename[^>]*>[^<]*</SourceFilename>"


def verbose(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``geocd -vv`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "geocd", "-vv", *map(str, arguments)],
        capture_output=True, text=True, check=False, env=os.environ | environment,
    )  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_credentials_stay_out_of_all_that_is_written_and_shown(form: str, host: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    before, after, valid = (filled(form, host, f"{name}.tif") for name in ("before", "after", "valid"))
    command = ["detect", before, after, "--valid", valid, "-o", out / "y", "--method", "cva"]
    environment = {"AWS_NO_SIGN_REQUEST": "YES", "AWS_S3_ENDPOINT": host, "AWS_HTTPS": "NO"}
    environment["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"  # fewer requests
    done = verbose(*command, **environment)
    if form.startswith(("http", "/vsicurl", "GTIFF")):
        assert done.returncode == 0, done.stderr
        item = json.loads((out / "y.json").read_text())
        assert any(link["rel"] == "derived_from" for link in item["links"])
    assert SECRET not in done.stdout + done.stderr
    assert leaks(out) == []


def test_credentials_stay_out_of_a_batch(host: str, tmp_path: Path, cluster: str) -> None:
    forms = [*FORMS[:2], "http://u:{}@HOST/gone-{name}", "/vsicurl/http://HOST/no?sig={}"]
    pairs = [
        f"p{number},{filled(form, host, 'before.tif')},{filled(form, host, 'after.tif')}"
        for number, form in enumerate(forms)
    ]
    (tmp_path / "pairs.csv").write_text("\n".join(["id,before,after", *pairs]))
    out = tmp_path / "out"
    done = verbose("batch", tmp_path / "pairs.csv", out, "--method", "cva", "--scheduler", cluster)
    assert done.returncode == 3, done.stderr
    status = verbose("batch", "--status", out)
    assert "2 done, 2 failed" in status.stdout, status.stdout
    assert SECRET not in done.stdout + done.stderr + status.stdout + status.stderr
    assert leaks(out) == []


#: As STAC items may have them: those above that can be read here, and others of the same kinds.
HREFS = [
    *(form for form in FORMS if form.startswith(("http", "/vsicurl", "GTIFF"))),
    "HTTP://USER:{}@HOST/{name}?%74oken={}",
    "http://HOST/{name}?next=http%3A%2F%2Fuser%3A{}%40other%2Fx#access_token={}",
]


def items(host: str, folder: Path) -> Path:
    """Write a list of STAC items with a link of each form; two items are a pair."""
    features = [
        {
            "type": "Feature", "stac_version": "1.0.0", "id": f"i{number}", "geometry": None, "links": [],
            "properties": {
                "datetime": f"{2023 + number % 2}-06-03T10:00:00Z",
                "grid:code": f"MGRS-33UU{chr(65 + number // 2)}",
            },
            "assets": {"visual": {"href": filled(form, host, ("before.tif", "after.tif")[number % 2])}},
        }
        for number, form in enumerate(HREFS)
    ]  # fmt: skip
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_credentials_stay_out_of_a_batch_of_stac_items(host: str, tmp_path: Path, cluster: str) -> None:
    assert len(HREFS) == 12
    out = tmp_path / "out"
    options = ("--assets", "visual", "--dates", "2023-06-03", "2024-06-03", "--method", "cva")
    done = verbose("batch", items(host, tmp_path), out, *options, "--scheduler", cluster)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert leaks(out) == []
    assert len(list(out.glob("*/*_report.html"))) == 6
    sources = b"".join(path.read_bytes() for path in out.rglob("*.vrt"))
    assert sources.count(SECRET.encode()) >= 12  # which must work
