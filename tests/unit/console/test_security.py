"""Who gets in, what every answer says about itself, and what only our own forms may do."""

from __future__ import annotations

import pytest
from tests.support.console import Client, console_over
from tests.support.operators_stack import operators_stack
from tests.support.shop import Lived
from tests.support.world import World

from refunds_console.security import HEADERS, MAX_FORM_BYTES, Session

SCRIPT_FREE = "script-src 'self'; style-src 'self'"


@pytest.fixture
def stranger(world: World) -> Client:
    """Somebody without a session."""
    return console_over(operators_stack(world.stack), allow_changes=True)


@pytest.mark.parametrize("path", ["/", "/refunds/rf_1", "/fragments/live", "/proof", "/nope"])
def test_nothing_is_shown_without_a_session(stranger: Client, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status == 401
    assert "refunds-prod" not in answer.text
    assert stranger.session.csrf_token not in answer.text


def test_the_token_is_exchanged_once_for_a_cookie_that_scripts_and_other_sites_lack(
    stranger: Client,
) -> None:
    first = stranger.get(f"/enter?token={stranger.session.token}")
    assert first.status == 303
    assert first.headers["location"] == "/"
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert stranger.session.token not in cookie
    assert stranger.get(f"/enter?token={stranger.session.token}").status == 403


def test_the_session_may_open_the_used_address_again(stranger: Client) -> None:
    stranger.enter()
    assert stranger.get(f"/enter?token={stranger.session.token}").status == 303


@pytest.mark.parametrize("token", ["", "x", "é", "a" * 43])
def test_a_wrong_token_opens_nothing(stranger: Client, token: str) -> None:
    answer = stranger.get(f"/enter?token={token}")
    assert answer.status == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("cookie", ["", "refunds_console_8321=x", "refunds_console_9=y", "\x01=;"])
def test_a_wrong_cookie_is_no_session(stranger: Client, cookie: str) -> None:
    assert stranger.get("/", cookie=cookie).status == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:80", "[::1]:8321", ""])
def test_another_host_name_is_refused(console: Client, host: str) -> None:
    """A website can make a name of its own resolve to 127.0.0.1."""
    assert console.get("/", host=host).status == 421


@pytest.mark.parametrize("path", ["/", "/nope", "/static/console.css", "/fragments/checks"])
def test_every_answer_has_the_security_headers(console: Client, path: str) -> None:
    headers = console.get(path).headers
    assert {name: headers[name] for name in HEADERS} == HEADERS
    assert SCRIPT_FREE in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "same-origin"


def test_refusals_have_them_too(stranger: Client) -> None:
    for answer in (stranger.get("/"), stranger.get("/", host="evil.example")):
        assert answer.headers["cache-control"] == "no-store"
        assert "content-security-policy" in answer.headers


def test_pages_have_no_script_or_style_of_their_own(console: Client, lived: Lived) -> None:
    lived.add("rf_1")
    for path in ("/", "/refunds", "/refunds/rf_1", "/money", "/work", "/proof"):
        text = console.get(path).text
        assert text.count("<script") == 1
        assert '<script src="/static/console.js" defer></script>' in text
        assert "style=" not in text
        assert "<style" not in text
        assert " on" not in [word[:3] for word in text.split('="')[0].split("<")]


# --- Forms ----------------------------------------------------------------------------------------


def test_a_form_of_another_site_changes_nothing(console: Client) -> None:
    token = console.session.csrf_token
    without = console.post("/proof/check", {"check": "records"})
    wrong = console.post("/proof/check", {"check": "records", "csrf_token": "x"})
    elsewhere = console.post(
        "/proof/check", {"check": "records", "csrf_token": token}, origin="https://evil.example"
    )
    sites = console.post(
        "/proof/check", {"check": "records", "csrf_token": token}, sec_fetch_site="cross-site"
    )
    for answer in (without, wrong, elsewhere, sites):
        assert answer.status == 409
        assert "Nothing was changed" in answer.text


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "multipart/form-data"])
def test_only_forms_are_read(console: Client, kind: str) -> None:
    body = f"csrf_token={console.session.csrf_token}&check=x".encode()
    assert console.send("POST", "/proof/check", body, {"content-type": kind}).status == 409


def test_a_large_form_is_refused(console: Client) -> None:
    answer = console.change("/proof/check", check="x" * MAX_FORM_BYTES)
    assert answer.status == 409
    assert "too large" in answer.text


def test_a_long_address_is_refused(console: Client) -> None:
    assert console.get(f"/refunds?q={'x' * 5000}").status == 414


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(console: Client, method: str) -> None:
    assert console.send(method, "/", b"", {}).status == 405


@pytest.mark.parametrize("other", ['prefs={"a":1}', "a b", 'x="', "foo[bar]=1", "naïve=1"])
def test_a_cookie_of_another_program_on_this_machine_ends_no_session(other: str) -> None:
    session = Session(8321)
    ours = str(session.enter(session.token)).split(";")[0]
    assert session.holds(f"{other}; {ours}")
