"""Who acts, as AWS STS knows them, and whether two names are the same person.

A person is known by a role session's name, or by an IAM user's name. The same session name in two
roles is one person: nobody becomes two people by assuming another role.
"""

from __future__ import annotations

from typing import NamedTuple

from refunds.domain.refund import short_text


class Identity(NamedTuple):
    """The caller as STS names them. ``on_behalf_of`` is a note that the caller adds; nothing proves
    it."""

    arn: str
    account: str
    user_id: str
    """STS's ``UserId``. SQS writes the same text as the ``SenderId`` of a message."""
    on_behalf_of: str | None = None

    @property
    def name(self) -> str:
        """The role session's name, or the IAM user's."""
        return person_of(self.arn)

    def is_any_of(self, *names: str | None) -> bool:
        """Whether one of the names, such as ``requested_by`` or ``sent_by``, is this person's."""
        recorded = short_text(self.arn)  # long ones are cut
        return any(
            name == recorded or same_person(self.arn, name) or same_person(self.user_id, name)
            for name in names
        )

    def recorded(self) -> dict[str, str]:
        """The fields that the record of an action keeps about who acted."""
        found = {"by": short_text(self.arn) or ""}
        if note := short_text(self.on_behalf_of):
            found["on_behalf_of"] = note
        return found


def person_of(name: str) -> str:
    """The person's own part of an ARN, of SQS's ``SenderId`` or of a ``requested_by``.

    ``arn:aws:sts::123456789012:assumed-role/Reviewer/ada``, ``AROAEXAMPLE:ada`` and
    ``operator:ada`` are all ``ada``.
    """
    own = name.split(":", 5)[-1] if name.startswith("arn:") else name.partition(":")[2] or name
    return own.rpartition("/")[2] or own


def same_person(one: str | None, other: str | None) -> bool:
    """Whether two names may belong to one person. In doubt they do, since a second person must be
    certain.

    An address such as ``ada@example.com`` is compared with a plain ``ada`` by its first part.
    """
    if not one or not other:
        return False
    first, second = person_of(one).casefold().strip(), person_of(other).casefold().strip()
    if "@" in first and "@" in second:
        return first == second
    return first.partition("@")[0] == second.partition("@")[0]
