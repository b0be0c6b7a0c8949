"""Run a batch on SLURM: dask-jobqueue starts the workers, `geocd batch` uses them.

    pip install 'geocd[batch]' dask-jobqueue
    python examples/batch_slurm.py pairs.csv /shared/archive --jobs 20 --partition standard

Run it where it can stay for as long as the batch takes (a login node in tmux, or a small job of its own).
Whatever ends it, the same command continues. Other queues: PBSCluster, LSFCluster, ... of dask-jobqueue take
the same place. What --gpu asks for differs between sites: see `job_extra_directives` in your site's examples.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from geocd.batch.pairs import read_items
from geocd.batch.run import Cluster, Summary, run
from geocd.config import Settings


def job(options: argparse.Namespace) -> dict[str, Any]:
    """Return what one SLURM job is: one worker, one thread, one pair at a time."""
    resources = ["--resources", "GPU=1"] if options.gpu else []
    return {
        "queue": options.partition,
        "cores": 1,
        "processes": 1,
        "memory": options.memory,
        "walltime": options.walltime,
        # ends before SLURM kills it, so that its pair goes to another worker in time
        "worker_extra_args": ["--lifetime", options.lifetime, "--lifetime-stagger", "5m", *resources],
        "job_extra_directives": ["--gres=gpu:1"] if options.gpu else [],
        "local_directory": "$TMPDIR",
    }


def batch(options: argparse.Namespace, start: Any) -> Summary:
    """Do the batch on a cluster that ``start`` makes of the description of a job."""
    settings = Settings.from_flat({"method": options.method, "device": "cuda" if options.gpu else "auto"})
    with start(**job(options)) as cluster:
        cluster.scale(jobs=options.jobs)  # or cluster.adapt(maximum_jobs=...)
        address = cluster.scheduler_address
        workers = Cluster(
            scheduler=address,
            resources={"GPU": 1} if options.gpu else {},
            worker_timeout=7 * 24 * 3600,  # jobs may be in the queue for long
        )
        return run(read_items(options.pairs), options.folder, settings=settings, cluster=workers)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("folder", type=Path, help="on a file system that all nodes share")
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--partition")
    parser.add_argument("--memory", default="4GB")
    parser.add_argument("--walltime", default="04:00:00")
    parser.add_argument("--lifetime", default="225m")
    parser.add_argument("--method", default="deep")
    parser.add_argument("--gpu", action="store_true")
    return parser.parse_args(argv)


if __name__ == "__main__":
    from dask_jobqueue import SLURMCluster

    summary = batch(arguments(), SLURMCluster)
    print(f"{len(summary.done)} done, {len(summary.failed)} failed")
    sys.exit(3 if summary.failed else 0)
