#!/usr/bin/env python3
"""Pack the QGIS plugin into a zip that QGIS installs; the same files give the same bytes.

    python3 qgis_plugin/make_zip.py dist/geocd_qgis.zip

Needs nothing but Python.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: Files of the plugin's folder that go in; nothing that an editor or Python leaves there.
KINDS = {".py", ".json", ".txt", ".png", ".html"}


def files() -> dict[str, Path]:
    """Return the files to pack by their names in the zip, sorted."""
    paths = {f"geocd/{path.name}": path for path in (HERE / "geocd").iterdir() if path.suffix in KINDS}
    paths["geocd/LICENSE"] = HERE.parent / "LICENSE"
    return dict(sorted(paths.items()))


def pack(target: Path) -> None:
    """Write the zip, which appears when it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:  # deflated bytes depend on the zlib
        for name, path in files().items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix, wherever it is made
            info.external_attr = 0o100644 << 16
            archive.writestr(info, path.read_bytes())
    part.replace(target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    pack(Path(sys.argv[1]))
    print(sys.argv[1])
