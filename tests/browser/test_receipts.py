"""What a receipt's page proves and refuses, in a real browser, opened as an auditor does."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from playwright.sync_api import Page, expect
from tests.support.audit_backups import Signer
from tests.support.receipt_page import (
    HOSTILE,
    Open,
    give_key,
    give_receipt,
    problems_on,
    show,
    verdict_on,
    wait_until_checked,
)
from tests.support.receipts import FORGERIES, Receipt

from refunds.backup.merkle import inclusion_path, merkle_root
from refunds_ops.audit.receipt_check import check_receipt
from refunds_ops.audit.receipt_page import html_receipt

# --- What it proves -------------------------------------------------------------------------------


def test_without_a_key_it_says_what_is_not_proven(open_page: Open, receipt: Receipt) -> None:
    page = open_page(receipt)
    assert verdict_on(page) == ("open", "Consistent, but not proven: give the public key")
    expect(page.locator("#verdict-text")).to_contain_text("the key that came with this file")
    expect(page.locator("#checks")).to_contain_text(Signer().fingerprint())
    expect(page.locator("#entries")).not_to_contain_text("in the signed digest")


def test_with_the_key_that_is_trusted_everything_checks(open_page: Open, receipt: Receipt) -> None:
    page = open_page(receipt)
    give_key(page)
    assert verdict_on(page) == ("good", "Everything checks")
    assert problems_on(page) == []
    expect(page.locator("#entries")).to_contain_text("5.00 USD was paid back through flair.")
    expect(page.locator(".marks").get_by_text("in the signed digest")).to_have_count(3)
    expect(page.locator("#key-says")).to_contain_text(Signer().fingerprint())


def test_a_key_can_be_pasted_and_taken_away(open_page: Open, receipt: Receipt) -> None:
    page = open_page(receipt)
    page.get_by_label("Public key", exact=True).fill(Signer().public.pem.decode())
    wait_until_checked(page)
    assert verdict_on(page)[0] == "good"
    page.get_by_label("Public key", exact=True).fill("")
    wait_until_checked(page)
    assert verdict_on(page)[0] == "open"


def test_a_key_and_a_receipt_can_be_dropped(open_page: Open, receipt: Receipt) -> None:
    page = open_page(receipt)
    drop = """text => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([text], "dropped"));
        document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
    }"""
    page.evaluate(drop, Signer().public.pem.decode())
    wait_until_checked(page)
    assert verdict_on(page)[0] == "good"
    FORGERIES["an amount"].forge(receipt)
    page.evaluate(drop, html_receipt(receipt))
    wait_until_checked(page)
    assert "entry 2 was changed" in problems_on(page)[0]


def test_the_keys_der_form_is_taken(open_page: Open, receipt: Receipt) -> None:
    page = open_page(receipt)
    give_key(page, Signer().der)
    assert verdict_on(page)[0] == "good"


def test_anothers_key_is_refused(open_page: Open, receipt: Receipt) -> None:
    page = open_page(receipt)
    give_key(page, Signer("mallory").public.pem)
    assert verdict_on(page) == ("bad", "The digest's signature is not by this public key")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"hello", "This is not a public key"),
        (Signer().public.pem.replace(b"M", b"?", 1), "This is not a public key"),
        (Signer().public.pem.replace(b"MII", b"MIX", 1), "This is not an RSA public key"),
        (b"-----BEGIN PUBLIC KEY-----\nabc=d\n-----END PUBLIC KEY-----", "cut or changed"),
        (b"-----BEGIN PRIVATE KEY-----\nMII=\n-----END PRIVATE KEY-----", "This is a private key"),
        (b"-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----", "This is a certificate"),
        (b"0\x82\x00", "This is not an RSA public key"),
    ],
)
def test_what_is_no_key_is_named_and_proves_nothing(
    open_page: Open, receipt: Receipt, content: bytes, says: str
) -> None:
    page = open_page(receipt)
    give_key(page)
    give_key(page, content)
    assert verdict_on(page) == ("open", "Not proven: the public key can't be read")
    expect(page.locator("#verdict-text")).to_contain_text(says)


def test_what_came_after_the_backup_is_not_proven(open_page: Open, receipt: Receipt) -> None:
    del receipt["proofs"][2]
    page = open_page(receipt)
    give_key(page)
    assert verdict_on(page) == ("open", "Not proven: version 3")
    expect(page.get_by_text("no signature covers it")).to_have_count(1)


def test_a_refund_that_no_backup_covers_is_not_proven(open_page: Open, receipt: Receipt) -> None:
    receipt |= {"digest": None, "proofs": []}
    page = open_page(receipt)
    assert verdict_on(page)[0] == "open"
    give_key(page)
    assert verdict_on(page) == ("open", "Not proven: versions 1, 2 and 3")


# --- What it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forged_receipt_is_refused_and_the_forgery_named(
    tab: Page, receipt: Receipt, tmp_path: Path, what: str
) -> None:
    FORGERIES[what].forge(receipt)
    show(tab, tmp_path, receipt)
    assert verdict_on(tab)[0] != "good"
    give_key(tab)
    kind, title = verdict_on(tab)
    expected = check_receipt(json.dumps(receipt).encode(), Signer().public).problems
    assert problems_on(tab) == expected
    assert FORGERIES[what].says in expected[0]
    assert kind == ("open" if expected[0].startswith("not proven") else "bad")
    assert title is not None
    assert title.lower() == expected[0].lower()


@pytest.mark.parametrize("seed", range(4))
def test_the_page_and_the_command_agree_on_damaged_receipts(
    one_page: Page, receipt: Receipt, seed: int
) -> None:
    """Both read the same bytes, with one change at random, or two."""
    rng = random.Random(seed)
    for _ in range(60):
        damaged = deepcopy(receipt)
        for _ in range(rng.choice((1, 1, 2))):
            damage(damaged, rng)
        content = json.dumps(damaged).encode()
        give_receipt(one_page, content)
        expected = check_receipt(content, Signer().public)
        assert problems_on(one_page) == expected.problems, content
        assert (verdict_on(one_page)[0] == "good") == expected.proven, content


def damage(receipt: Receipt, rng: random.Random) -> None:
    """Change, remove, repeat or add one value anywhere."""
    places = list(places_in(receipt))
    where, name = rng.choice(places)
    others = [
        0,
        1,
        -1,
        2**31,
        2**32,
        "",
        "x",
        HOSTILE,
        None,
        True,
        [],
        {},
        "0" * 64,
        {"toString": 1},
    ]
    match rng.randrange(4):
        case 0:
            del where[name]
        case 1 if isinstance(where, list):
            where.insert(name, deepcopy(where[name]))
        case 2:
            source, member = rng.choice(places)
            where[name] = deepcopy(source[member])
        case _:
            where[name] = rng.choice(others)


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    names = value if isinstance(value, dict) else range(len(value))
    for name in names:
        yield value, name
        if isinstance(value[name], dict | list):
            yield from places_in(value[name])


def test_merkle_paths_are_checked_in_trees_of_every_shape(one_page: Page) -> None:
    cases = []
    for size in range(1, 18):
        leaves = [bytes([number]) * 32 for number in range(size)]
        root = merkle_root(leaves).hex()
        for index, leaf in enumerate(leaves):
            path = [each.hex() for each in inclusion_path(leaves, index)]
            for claimed in range(size):
                cases.append([leaf.hex(), claimed, size, path, root, claimed == index])
    wrong = one_page.evaluate(
        """async cases => {
            const wrong = [];
            for (const [leaf, index, size, path, root, holds] of cases) {
                const found = await isIncluded(bytesOf(leaf), index, size, path, root);
                if (found !== holds) wrong.push([index, size]);
            }
            return wrong;
        }""",
        cases,
    )
    assert wrong == []


def test_canonical_json_is_rfc_8785(one_page: Page) -> None:
    texts = [
        "",
        "é",
        "\u2028",
        "\x00\x1f\x7f",
        '"\\/',
        "😀",
        "\ufb33",
        "z",
        "a",
        "10",
        "2",
        "__proto__",
    ]
    values = [None, True, False, 0, -1, 2**53 - 1, -(2**53) + 1, *texts]
    document: Receipt = {"list": [*values, {}, [], {"deep": [dict.fromkeys(texts, 1)]}]} | dict(
        zip(texts, values, strict=False)
    )
    text = json.dumps(document)
    assert one_page.evaluate("text => canonical(JSON.parse(text))", text) == (
        rfc8785.dumps(json.loads(text)).decode()
    )


@pytest.mark.parametrize("content", [b"", b"NaN", b"[]", b"{}", b"\xff", b"\xef\xbb\xbf{}"])
def test_what_is_no_receipt_is_refused(one_page: Page, content: bytes) -> None:
    give_receipt(one_page, content)
    assert verdict_on(one_page)[0] == "bad"
    assert problems_on(one_page) == check_receipt(content, Signer().public).problems


def test_a_receipt_is_refused_after_another_one_was_proven(
    one_page: Page, receipt: Receipt
) -> None:
    give_receipt(one_page, json.dumps(receipt).encode())
    assert verdict_on(one_page)[0] == "good"
    give_receipt(one_page, b"{}")
    assert verdict_on(one_page)[0] == "bad"
    expect(one_page.locator("#story")).to_be_hidden()
    expect(one_page.locator("#checks")).to_be_empty()
