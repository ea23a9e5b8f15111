"""Ways to tamper with what is stored, and what `verify` says of each."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.audit_rows import Trail, named, rehashed

Tamper = Callable[[Trail], None]
Name = tuple[str, str | None, int | None]


class Tamperings(dict[str, tuple[Tamper, set[Name]]]):
    """Each way to tamper, by its name, and all that `verify` must find, no more and no less."""

    def add(self, *names: Name) -> Callable[[Tamper], Tamper]:
        def add(tamper: Tamper) -> Tamper:
            self[tamper.__name__] = (tamper, set(names))
            return tamper

        return add


def change(
    trail: Trail, refund_id: str, version: int, *, hash_too: bool = False, **new: object
) -> None:
    entry = trail.entry(refund_id, version) | new
    trail.put_entry(rehashed(entry) if hash_too else entry)


def assert_named_exactly(trail: Trail, tamper: Tamper, expected: set[Name]) -> None:
    tamper(trail)
    report = trail.verify()
    assert named(report.findings) == expected
    assert len(report.findings) == len(expected)
    for finding in report.findings:
        assert finding.what
        assert finding.to_do
