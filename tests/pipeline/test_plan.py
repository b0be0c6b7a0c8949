"""What follows from a limit on memory, and that it holds."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import WriteRaster
from rasterio._env import get_gdal_config
from rasterio.transform import Affine

from geocd.config import Settings
from geocd.errors import ConfigError
from geocd.pipeline import plan as planning
from geocd.pipeline.estimate import forecast
from geocd.pipeline.prepared import open_run
from geocd.pipeline.run import detect
from geocd.raster.files import bounded_cache
from geocd.raster.pair import Pair
from geocd.scene.otherdates import NO_OTHER_DATES

MakePair = Callable[..., tuple[Path, Path]]


@pytest.fixture(autouse=True)
def built_for_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever torch is installed here."""
    monkeypatch.setattr(planning, "gpu_build", lambda: False)


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    """Six bands of 64 Mpx, of which no pixel is stored."""
    flat = np.zeros((6, 1, 1), np.uint16)
    small = make_pair(flat, flat)
    opened = Pair(*small)
    opened.grid = type(opened.grid)(opened.grid.crs, opened.grid.transform, 8000, 8000)
    return opened


def test_a_smaller_limit_means_fewer_tiles_then_smaller_ones(pair: Pair) -> None:
    settings = Settings.from_flat({"preset": "reference"}).resolved()  # of the default, the fit takes more
    plans = [planning.plan_run(pair, settings, 8, limit) for limit in range(12_000, 1600, -20)]
    assert plans[0].jobs == 8
    assert plans[0].tile_size == 256
    for more, less in itertools.pairwise(plans):
        assert less.peak <= less.limit
        assert (less.jobs, less.tile_size) <= (more.jobs, more.tile_size)
        assert less.tile_size == 256 or less.jobs == 1
    assert plans[-1].tile_size < 256


@pytest.mark.parametrize("method", ["deep", "cva", "irmad"])
@pytest.mark.parametrize("tile_size", [None, 512])
def test_a_limit_that_is_too_small_names_the_least_that_works(
    method: str, tile_size: int | None, pair: Pair
) -> None:
    settings = Settings.from_flat({"method": method, "tile_size": tile_size}).resolved()
    with pytest.raises(
        ConfigError, match=r"--mem-limit 100: too small .* MB is the least that works"
    ) as caught:
        planning.plan_run(pair, settings, 2, 100)
    least = caught.value.details["least"]
    plan = planning.plan_run(pair, settings, 2, least)
    assert plan.jobs == 1 or method != "deep"  # the others' fit takes more than their tiles
    assert tile_size is None or plan.tile_size == tile_size
    with pytest.raises(ConfigError):
        planning.plan_run(pair, settings, 2, least - 1)


def test_a_torch_for_gpus_needs_more(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def peaks() -> list[int]:
        each = [Settings.from_flat({"method": method}).resolved() for method in ("deep", "cva")]
        return [planning.predict(pair, settings, 512, 1, 2000) for settings in each]

    before = peaks()
    monkeypatch.setattr(planning, "gpu_build", lambda: True)
    assert peaks() == [before[0] + planning.GPU_BUILD, before[1]]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other names elsewhere")
def test_what_torch_was_built_for_is_seen_without_importing_it() -> None:
    program = (
        "import sys; from geocd.pipeline.plan import gpu_build; print(gpu_build(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    built = torch.version.cuda is not None or torch.version.hip is not None
    assert done.stdout.split() == [str(built), "False"]


def test_without_a_limit_only_a_number_of_jobs_that_nobody_asked_for_is_lowered(pair: Pair) -> None:
    settings = Settings.from_flat({"tile_size": 2048}).resolved()
    assert planning.plan_run(pair, settings, 8, None, jobs_given=True).jobs == 8
    plan = planning.plan_run(pair, settings, 8, None, jobs_given=False)
    assert (plan.jobs, plan.tile_size, plan.limit) == (1, 2048, planning.DEFAULT_LIMIT)
    small = planning.plan_run(pair, Settings().resolved(), 64, None, jobs_given=False)
    assert small.peak <= small.limit
    assert small.jobs > 2


@pytest.mark.parametrize(("machine", "limit"), [(8000, 2000), (16_000, 3200), (None, 2000)])
def test_a_machine_of_many_processors_is_not_held_to_few_tiles(
    machine: int | None, limit: int, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But to half of its memory."""
    monkeypatch.setattr(
        planning, "usable_memory", lambda: machine and 2 * machine if machine != 8000 else 4000
    )
    plan = planning.plan_run(pair, Settings().resolved(), 16, None, jobs_given=False)
    assert (plan.limit, plan.jobs > 10) == (limit, limit > 2000)


def test_on_a_graphics_card_a_tile_takes_little_of_the_other_memory(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = []
    for gpu in (False, True):
        monkeypatch.setattr(planning, "on_gpu", lambda settings, gpu=gpu: gpu)
        plans = [planning.stages(pair, Settings().resolved(), 512, jobs, 4000)["tiles"] for jobs in (1, 16)]
        tiles.append(plans[1] - plans[0])
    assert tiles[1] < tiles[0] / 4


def test_without_a_card_nothing_is_computed_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "gpu_build", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not planning.on_gpu(Settings().resolved())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert planning.on_gpu(Settings().resolved())
    assert not planning.on_gpu(Settings.from_flat({"device": "cpu"}).resolved())
    assert not planning.on_gpu(Settings.from_flat({"method": "cva"}).resolved())


@pytest.mark.parametrize("shape", [(1, 4_000_000), (4_000_000, 1), (600, 40_000), (40_000, 600)])
@pytest.mark.parametrize("method", ["deep", "cva", "irmad"])
def test_a_flat_raster_takes_no_more_than_a_square_one(
    shape: tuple[int, int], method: str, pair: Pair
) -> None:
    settings = Settings.from_flat({"method": method}).resolved()
    pair.grid = type(pair.grid)(pair.grid.crs, pair.grid.transform, *shape)
    assert planning.plan_run(pair, settings, 2, 1200).tile_size == 512


def test_a_much_finer_image_needs_memory_while_it_is_warped(make_pair: MakePair) -> None:
    small, fine = np.ones((3, 40, 40), np.uint8), np.ones((3, 200, 200), np.uint8)
    paths = make_pair(small, fine, after_transform=Affine(2, 0, 500_000, 0, -2, 4_200_000))
    settings = Settings().resolved()
    with Pair(*paths, align=True) as aligned, Pair(paths[0], paths[0]) as plain:
        grown = [planning.stages(pair, settings, 512, 1, 2000)["tiles"] for pair in (plain, aligned)]
    assert 20 < grown[1] - grown[0] < 80


def test_other_dates_are_warped_too(make_pair: MakePair, write_raster: WriteRaster) -> None:
    coarse, fine = np.ones((3, 40, 40), np.uint8), np.ones((3, 200, 200), np.uint8)
    before, after = make_pair(coarse, coarse)
    later = write_raster("later", fine, transform=Affine(2, 0, 500_000, 0, -2, 4_200_000))
    settings = Settings.from_flat({"confirm": (str(later),), "align": "grid"})
    with open_run(str(before), str(after), settings, jobs=1) as run:
        plain, warped = (
            planning.stages(run.pair, run.settings, 512, 1, 2000, dates)["tiles"]
            for dates in (NO_OTHER_DATES, run.others)
        )
        assert 20 < warped - plain < 80
        assert run.plan.peak >= warped


def test_no_more_jobs_than_tiles(make_pair: MakePair) -> None:
    flat = np.zeros((1, 60, 60), np.uint8)
    with Pair(*make_pair(flat, flat)) as opened:
        assert planning.plan_run(opened, Settings().resolved(), 8, None).jobs == 1


def test_the_block_cache_is_in_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rasterio takes bytes where GDAL's own variable would take a small number as megabytes."""
    monkeypatch.delenv("GDAL_CACHEMAX", raising=False)
    with bounded_cache(64):
        assert get_gdal_config("GDAL_CACHEMAX") == 64 * 2**20
    assert [planning.cache_size(limit) for limit in (100, 1000, 2000, 64_000)] == [16, 62, 125, 128]


def test_a_preset_and_the_options_it_stands_for_are_one_run(
    make_pair: MakePair, scene: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    """The plan reads resolved settings: ``--fit tile``, which the preset implies, changes nothing."""
    before = scene(3, 72, 256)
    after = (before * 1.1).astype(np.uint16)
    after[:, 20:50, 60:150] += 3000
    files = make_pair(before, after)
    forecasts, written = [], []
    for name, options in (("implied", {}), ("explicit", {"fit": "tile"})):
        settings = Settings.from_flat(
            {"preset": "reference", "weights": "random", "iterations": 1, **options}
        )
        forecasts.append(forecast(*files, settings=settings, jobs=2, mem_limit=900, measure=False))
        paths, _ = detect(*files, tmp_path / name, settings=settings, jobs=2, mem_limit=900)
        written.append([paths[key].read_bytes() for key in ("prob", "changes", "quicklook")])
    assert forecasts[0] == forecasts[1]
    assert forecasts[0].tile_size == 192, "the limit is too small for the 256 px of the preset"
    assert forecasts[0].tiles == 2
    assert written[0] == written[1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measured in kilobytes there")
def test_the_limit_holds_and_changes_no_byte(
    make_pair: MakePair, scene: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    before = scene(6, 1300, 1300)
    after = (before * 1.1).astype(np.uint16)
    after[:, 300:700, 200:900] += 3000
    files = make_pair(before, after, tiled=True)
    # Asked of the process itself at its end: what the parent is told counts the parent's own memory too.
    program = (
        "import atexit, pathlib, re\n"
        "status = pathlib.Path('/proc/self/status')\n"
        "atexit.register(lambda: print(re.search(r'VmHWM:\\s+(\\d+)', status.read_text())[1]))\n"
        "from geocd.cli import main; main()"
    )
    peaks = []
    for name, extra in (("free", ["--jobs", "6"]), ("bound", ["--jobs", "6", "--mem-limit", "640"])):
        options = ["--method", "cva", "-o", str(tmp_path / name), *extra]
        command = [sys.executable, "-c", program, "-q", "detect", *map(str, files), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] <= 640
    for suffix in ("prob.tif", "changes.gpkg"):
        assert (tmp_path / f"free_{suffix}").read_bytes() == (tmp_path / f"bound_{suffix}").read_bytes()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's, measured by Linux")
def test_memory_is_taken_from_the_system_once_also_on_a_dask_worker() -> None:
    """Pages taken anew for arrays of 1 MB, one after the other: too small for large pages."""
    program = (
        "import resource, sys, numpy as np\n"
        "from geocd import heap\n"
        "if sys.argv[1] == 'keep':\n"
        "    heap.keep()\n"
        "begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(500):\n"
        "    np.ones(2**17)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin)\n"
    )
    as_dask_does = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}
    faults = {
        what: int(
            subprocess.run(
                [sys.executable, "-c", program, what],
                capture_output=True,
                text=True,
                check=True,
                env=as_dask_does,
            ).stdout
        )
        for what in ("keep", "leave")
    }
    assert faults["keep"] < faults["leave"] / 5


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measured in kilobytes there")
@pytest.mark.parametrize("options", [(), ("--fit", "tile")], ids=["implied", "explicit"])
def test_the_reference_preset_stays_within_the_limit(
    options: tuple[str, ...], make_pair: MakePair, scene: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    """The peak as the kernel reports it to the parent, whose own memory is smaller."""
    before = scene(6, 256, 256)
    after = (before * 1.1).astype(np.uint16)
    after[:, 60:140, 50:180] += 3000
    command = [sys.executable, "-c", "from geocd.cli import main; main()", "-q", "detect"]
    command += [*map(str, make_pair(before, after)), "-o", str(tmp_path / "run"), "-j", "1"]
    command += ["--preset", "reference", "--weights", "random", "--iterations", "2", "--mem-limit", "2000"]
    process = subprocess.Popen([*command, *options])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert usage.ru_maxrss / 1024 <= 2000


def test_blocks_that_are_read_again_stay_in_memory_where_it_is_left(pair: Pair) -> None:
    """Two dates of six bands of uint16: 24 bytes a pixel, 3.25 rows of blocks and a row of tiles."""
    cva = Settings.from_flat({"method": "cva"}).resolved()
    roomy = planning.plan_run(pair, cva, 1, 1000)
    assert roomy.cache == pytest.approx((512 + 2.25 * 512) * 8000 * 24 / 2**20, abs=1)
    assert roomy.peak == planning.predict(pair, cva, 512, 1, 1000) - planning.cache_size(1000) + roomy.cache
    for limit in (600, 700):
        plan = planning.plan_run(pair, cva, 2, limit)
        assert planning.cache_size(limit) <= plan.cache < roomy.cache
        assert plan.peak <= limit
    pair.grid = type(pair.grid)(pair.grid.crs, pair.grid.transform, 300, 300)
    assert planning.plan_run(pair, cva, 1, 1000).cache == planning.cache_size(1000)
