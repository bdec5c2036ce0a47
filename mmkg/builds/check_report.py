"""What the checks of a version found: one row for each thing looked at, kept with the version as the table `checks`.

The limits themselves are tried in ``checks.py``. Of the rows that did not pass, messages are made; without any, the
version may be served.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmkg.shards import open_table, write_table
from mmkg.tables import CHECKS

_MESSAGES_PER_LIMIT = 5
"""So many subjects of one limit are named in messages, worst first; the table has all."""
_ADVICE: Mapping[str, str] = {
    "max_reject_share": "See the table `rejects`.",
    "max_triples_lost": "Is a dump missing or cut off?",
    "max_relation_drift": "`mmkg diff` shows what came and went.",
    "max_source_drift": "Is a dump of this source missing or cut off?",
    "max_entities_lost": "Is a dump missing, or did sources or identity links change?",
    "max_orphan_share": "See the table `findings`.",
    "max_unlabelled_share": "See the table `findings`.",
    "max_null_share": "Is the dump that brings this column missing?",
    "min_licence_share": "Set `licence` of the source, or extend checks.licences.",
    "max_pictures_lost": "`mmkg images status` with this version's folder tells what became of them.",
    "max_picture_failures": "`mmkg images status` with this version's folder tells why; `mmkg images retry` asks those "
    "again that may come back.",
    "min_picture_licence_share": "Set images.gates.training_licences_only, or extend checks.licences.",
}
"""What to do first; in the order in which problems are told. Changing the limit and --accept are for after that."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was held against one limit."""

    name: str  # the key of [checks]
    subject: str  # dump, relation, source, column; or graph
    before: int | None  # in the version being served; None without one, or where it is not counted
    now: int | None
    share: float | None  # what is held against the limit; None where it was not tried
    limit: float
    passed: bool | None  # None: not tried
    detail: str

    @property
    def message(self) -> str:
        """What is wrong, which limit says so, and where to look."""
        word = "asks for" if self.name.startswith("min_") else "allows"
        key = f"{self.name}.{self.subject}" if self.name == "max_null_share" else self.name
        return f"{self.detail}; checks.{key} {word} {self.limit:.2%}. {_ADVICE[self.name]}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckReport:
    """Everything that was looked at before a version was served."""

    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """What did not pass, in the order of the limits, worst first."""
        tripped = [check for check in self.checks if check.passed is False]
        order = {name: number for number, name in enumerate(_ADVICE)}
        return tuple(sorted(tripped, key=lambda check: (order[check.name], -_excess(check), check.subject)))

    @property
    def problems(self) -> tuple[str, ...]:
        """A message for each failure; of one limit the worst few, then how many more. Empty: it may be served."""
        messages = []
        for name in _ADVICE:
            failed = [check for check in self.failed if check.name == name]
            messages += [check.message for check in failed[:_MESSAGES_PER_LIMIT]]
            if len(failed) > _MESSAGES_PER_LIMIT:
                messages.append(f"checks.{name}: {len(failed) - _MESSAGES_PER_LIMIT:,} more; see the table `checks`")
        return tuple(messages)

    def to_rows(self, *, only_failed: bool = False) -> list[dict[str, Any]]:
        """Rows for a table: name, subject, before, now, share, limit, passed, detail; failures first."""
        others = () if only_failed else tuple(check for check in self.checks if check.passed is not False)
        return [dataclasses.asdict(check) for check in (*self.failed, *others)]


def _excess(check: Check) -> float:
    return abs((check.share or 0.0) - check.limit)


def write_checks(report: CheckReport, folder: Path) -> dict[str, int]:
    """Write the table `checks` into a folder; returns how many passed, failed and were not tried."""
    rows = [dataclasses.asdict(check) for check in report.checks]
    write_table(folder, "checks", [pa.Table.from_pylist(rows, CHECKS)])
    verdicts = [check.passed for check in report.checks]
    return {"passed": verdicts.count(True), "failed": verdicts.count(False), "not_tried": verdicts.count(None)}


def read_checks(folder: Path) -> CheckReport:
    """Read the table `checks` of a version.

    Raises:
        ShardError: the version has none: it is older than the table.
    """
    return CheckReport(checks=tuple(Check(**row) for row in open_table(folder, "checks").to_table().to_pylist()))
