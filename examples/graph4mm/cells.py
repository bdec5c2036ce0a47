"""Numbers and tables as the scripts of this folder print them."""

from collections.abc import Sequence

from mmkg.evaluation.bootstrap import Interval


def shown(interval: Interval, sign: str = "") -> str:
    """A number with its interval."""
    return f"{interval.value:{sign}.4f} [{interval.low:{sign}.4f}, {interval.high:{sign}.4f}]"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns of one width."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), flush=True)
