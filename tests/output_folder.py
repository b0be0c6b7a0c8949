"""Transactions that write texts instead of rasters, and what they leave in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from geocd.pipeline.transaction import Transaction
from geocd.report.products import PRODUCTS, Outputs


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, with its text, but for the lock of a run."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


SUFFIXES = {product.key: product.suffix for product in PRODUCTS}


def write_all(transaction: Transaction, text: str, keys: Any = tuple(SUFFIXES)) -> None:
    for key in keys:
        transaction.path(key).write_text(text)


def run(stem: Path, *, overwrite: bool = False, then: Callable[[], object] = lambda: None) -> None:
    """Write all outputs, do something else, commit."""
    with Transaction(Outputs(stem), overwrite=overwrite) as transaction:
        write_all(transaction, "new")
        then()
        transaction.commit()


NEW = {f"x{suffix}": "new" for suffix in SUFFIXES.values()}
OLD = {f"x{suffix}": "old" for suffix in SUFFIXES.values()}
