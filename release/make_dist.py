"""Make the wheel and the sdist, and try the wheel in an empty environment without a network: ``make dist``.

    python release/make_dist.py dist build/wheels

The first folder gets wheel and sdist, the second the wheels of what geocd needs, in the versions of this
environment, so that they are fetched once. On Linux the trial has no network (``unshare``), elsewhere pip is
only told to use none.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "geocd"


def main() -> None:
    """Build, check and try."""
    parser = argparse.ArgumentParser(description="Make the wheel and the sdist, and try the wheel.")
    parser.add_argument("dist", type=Path, help="folder of the results")
    parser.add_argument("wheels", type=Path, help="folder of the wheels of what geocd needs")
    args = parser.parse_args()
    wheel, sdist = build(args.dist.resolve())
    check_contents(wheel, sdist)
    fetch(args.wheels.resolve())
    try_wheel(wheel, args.wheels.resolve())
    print(f"{wheel}\n{sdist}\nboth are complete; the wheel was installed and run without a network")


def build(folder: Path) -> tuple[Path, Path]:
    """Return wheel and sdist, made of what git tracks and in no other folder of this one."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob(f"{PACKAGE}-*.whl"), *folder.glob(f"{PACKAGE}-*.tar.gz")):
        old.unlink()
    with tempfile.TemporaryDirectory() as temporary:
        clean = Path(temporary)
        for name in tracked():
            target = clean / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        for hook in ("build_sdist", "build_wheel"):
            code = f"from setuptools import build_meta; build_meta.{hook}({str(folder)!r})"
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=clean, capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(f"{hook} failed:\n{done.stderr}")
    (wheel,), (sdist,) = folder.glob(f"{PACKAGE}-*.whl"), folder.glob(f"{PACKAGE}-*.tar.gz")
    return wheel, sdist


def tracked() -> list[str]:
    """Return the files of the project as git knows them, those that are new with them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def check_contents(wheel: Path, sdist: Path) -> None:
    """End with a message where a file of the package, or a licence, is missing."""
    package = {name for name in tracked() if name.startswith(f"{PACKAGE}/")}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    missing = sorted(package - names)
    licences = [name for name in names if re.search(r"\.dist-info/.*LICENSE", name)]
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    missing += sorted(f"{name} (sdist)" for name in {*package, "LICENSE"} - inside)
    if missing or len(licences) < 2:
        sys.exit(f"missing: {', '.join(missing) or 'licences'}. Add them to package_data in setup.cfg.")


def requirements(name: str, pins: dict[str, str]) -> None:
    """Add what a distribution of this environment needs, at any depth, with its version."""
    from packaging.requirements import Requirement

    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        key = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if key not in pins:
            try:
                pins[key] = distribution(key).version
            except PackageNotFoundError:
                sys.exit(f"{key}: is not installed here. Run make setup first.")
            requirements(key, pins)


def fetch(folder: Path) -> None:
    """Fetch the wheels of all that geocd needs, unless they are there."""
    pins: dict[str, str] = {}
    requirements(PACKAGE, pins)
    pip = [sys.executable, "-m", "pip"]
    wanted = [f"{name}=={version}" for name, version in sorted(pins.items())]
    folder.mkdir(parents=True, exist_ok=True)
    there = ["download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(folder), *wanted]
    local = [*pip, *there, "--no-index", "--find-links", str(folder)]
    if subprocess.run(local, capture_output=True, check=False).returncode:
        subprocess.run([*pip, *there], check=True)


def try_wheel(wheel: Path, wheels: Path) -> None:
    """Install the wheel into an empty environment and run it on the demo pair, in an empty folder."""
    offline = ["unshare", "-rn"] if works(["unshare", "-rn", "true"]) else []
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        venv.create(home / "env", with_pip=True)
        folder = home / "env" / ("Scripts" if os.name == "nt" else "bin")
        # neither this checkout nor a user's settings
        around = {name: os.environ[name] for name in ("SYSTEMROOT", "TEMP") if name in os.environ}
        around |= {
            "PATH": os.pathsep.join([str(folder), os.defpath]),
            "HOME": str(home),
            "PYTHONWARNINGS": "error",
        }

        def run(*command: str) -> str:
            words = [*offline, str(folder / command[0]), *command[1:]]
            done = subprocess.run(words, cwd=home, env=around, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
            return done.stdout + done.stderr

        run(
            "python",
            "-W",
            "ignore",
            "-m",
            "pip",
            "install",
            "-q",
            "--no-index",
            "--find-links",
            str(wheels),
            str(wheel),
        )
        demo = (ROOT / "examples" / "make_demo_pair.py").read_text(encoding="utf-8")
        (home / "make_demo_pair.py").write_text(demo, encoding="utf-8")
        run("python", "make_demo_pair.py", "demo")
        print(run("geocd", "--version").strip())
        print(run("geocd", "detect", "demo/before.tif", "demo/after.tif", "-o", "demo/demo").strip())
        print(run("geocd", "evaluate", "demo/demo_prob.tif", "demo/truth.tif").strip().splitlines()[0])
        report = (home / "demo" / "demo_report.html").read_text(encoding="utf-8")
        if not (home / "demo" / "demo_changes.gpkg").exists() or "</html>" not in report:
            sys.exit("the run has not written all of its files")


def works(command: list[str]) -> bool:
    """Return whether a command exists and succeeds."""
    return (
        shutil.which(command[0]) is not None
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )


if __name__ == "__main__":
    main()
