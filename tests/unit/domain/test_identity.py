"""Who acts, and when two names are one person: in doubt they are."""

from __future__ import annotations

import pytest
from tests.support.builders import person

from refunds.domain.identity import Identity, person_of, same_person

ADA = "arn:aws:sts::123456789012:assumed-role/Reviewer/ada"


@pytest.mark.parametrize(
    ("name", "who"),
    [
        (ADA, "ada"),
        ("arn:aws-cn:sts::123456789012:assumed-role/Reviewer/ada@example.com", "ada@example.com"),
        ("arn:aws:iam::123456789012:user/ada", "ada"),
        ("arn:aws:iam::123456789012:user/finance/team/ada", "ada"),
        ("arn:aws:sts::123456789012:federated-user/ada", "ada"),
        ("arn:aws:iam::123456789012:root", "root"),
        ("AROAEXAMPLE:ada", "ada"),
        ("operator:ada", "ada"),
        ("AIDAEXAMPLE", "AIDAEXAMPLE"),
        ("ada", "ada"),
    ],
)
def test_a_person_is_the_session_or_the_user(name: str, who: str) -> None:
    assert person_of(name) == who


@pytest.mark.parametrize(
    "other",
    [
        ADA,
        "arn:aws:sts::123456789012:assumed-role/Refunder/ada",  # another role, the same person
        "arn:aws:sts::210987654321:assumed-role/Reviewer/ada",  # another account
        "arn:aws:iam::123456789012:user/Ada",
        "AROAEXAMPLE:ada",
        "operator:ada",
        "operator:ada@example.com",
        " ADA ",
    ],
)
def test_one_person_by_many_names_is_one_person(other: str) -> None:
    assert same_person(ADA, other)
    assert same_person(other, ADA)


@pytest.mark.parametrize(
    "other", ["operator:adam", "AROAEXAMPLE:eve", "agent:bot", "customer:ada-2", "", None]
)
def test_another_person_is_another(other: str | None) -> None:
    assert not same_person(ADA, other)


def test_two_addresses_are_compared_whole() -> None:
    assert not same_person("operator:ada@example.com", "operator:ada@example.org")
    assert same_person("operator:ada@example.com", "customer:Ada@Example.com")


def test_an_iam_user_is_the_sender_that_sqs_names_by_its_id() -> None:
    ada = Identity("arn:aws:iam::123456789012:user/ada", "123456789012", "AIDAEXAMPLE")
    assert ada.is_any_of("agent:bot", "AIDAEXAMPLE")
    assert not ada.is_any_of("agent:bot", "AIDAOTHER", None)


def test_the_record_keeps_the_arn_and_the_note_without_control_characters() -> None:
    assert person("ada").recorded() == {"by": ADA}
    noted = Identity(ADA, "123456789012", "AROAEXAMPLE:ada", "the shop\x1b[31m\u202e" + "x" * 300)
    assert noted.recorded()["on_behalf_of"].startswith("the shop [31m xxx")
    assert len(noted.recorded()["on_behalf_of"]) == 256
