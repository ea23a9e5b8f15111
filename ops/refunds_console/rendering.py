"""Pages out of templates: everything is escaped, and shown in the reader's form."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from refunds.domain.clock import from_rfc3339
from refunds.domain.money import EXPONENTS
from refunds_console.security import form_of
from refunds_console.state import Console
from refunds_ops.amounts import amount_text
from refunds_ops.dates import age, utc_now
from refunds_ops.errors import CommandError, RefusedError
from refunds_ops.statuses import outcome_of, short_name
from refunds_ops.terminal import explain, safe_text

STATUS_NAMES: Mapping[str, str] = {
    "PROCESSING": "Processing",
    "AWAITING_APPROVAL": "Awaiting approval",
    "PENDING": "Pending",
    "IN_REVIEW": "In review",
    "SUCCEEDED": "Succeeded",
    "FAILED": "Failed",
    "REJECTED": "Rejected",
    "REVERSED": "Reversed",
}
UNREADABLE = (ValueError, OverflowError, TypeError)

View = Callable[[Request], Response]
Change = Callable[[Request, Mapping[str, str]], Response]


class Pages:
    """Renders templates, and wraps functions as endpoints whose errors are pages too."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._environment = Environment(
            loader=PackageLoader("refunds_console"),
            autoescape=True,
            finalize=_visible,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            age=lambda instant: age(instant, utc_now()),
            money=money,
            number=lambda count: f"{count:,}",
            outcome=outcome_of,
            path=lambda text: quote(str(text), safe=""),
            query=lambda values: urlencode({name: each for name, each in values.items() if each}),
            short_name=lambda name: short_name(str(name)),
            status=status_pill,
            when=self.when,
        )
        self._environment.globals.update(
            allow_changes=console.allow_changes,
            csrf_token=console.session.csrf_token,
            status_names=STATUS_NAMES,
            where=where_of(console),
            zone=console.zone.name,
        )
        # Compiled now, so that the first page does not wait for it.
        for name in self._environment.list_templates():
            self._environment.get_template(name)

    def render(self, template: str, /, status: int = 200, **values: Any) -> Response:
        text = self._environment.get_template(template).render(now=utc_now(), **values)
        return HTMLResponse(text, status)

    def problem(self, what: str, *to_do: str, status: int) -> Response:
        return self.render("problem.html", status, what=what, to_do=to_do)

    def refusal(self, what: str, *to_do: str, status: int) -> Response:
        """The page for a browser without a session. It does not name the stack."""
        return self.render("bare.html", status, what=what, to_do=[each for each in to_do if each])

    def when(self, instant: str) -> Markup:
        """An instant in the stack's zone, with UTC and its age as the title. A damaged one is shown
        unchanged."""
        try:
            at, utc = self._console.zone.local(instant), from_rfc3339(instant)
            ago = age(instant, utc_now())
        except UNREADABLE:
            return escape(safe_text(instant))
        title = f"{utc:%Y-%m-%d %H:%M:%S} UTC, {ago} ago"
        return Markup('<time datetime="{}" title="{}">{}</time>').format(
            f"{utc:%Y-%m-%dT%H:%M:%SZ}", title, f"{at:%d %b %Y, %H:%M:%S}"
        )

    # --- Endpoints --------------------------------------------------------------------------------

    def view(self, show: View) -> View:
        """A page that only reads."""

        def endpoint(request: Request) -> Response:
            try:
                return show(request)
            except Exception as exc:
                return self._error(exc)

        return endpoint

    def change(
        self, act: Change, *, always: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that a form of ours posts to. ``always``: also without --allow-changes."""

        async def endpoint(request: Request) -> Response:
            try:
                form = await form_of(request)
                if not self._console.session.allows_change(
                    form.get("csrf_token", ""), request.headers
                ):
                    raise RefusedError(
                        "This form is not one of this console's pages, or is an older console's.",
                        "Open the page again and repeat it. Nothing was changed.",
                    )
                if not (always or self._console.allow_changes):
                    raise RefusedError(
                        "This console is read-only. Nothing was changed.",
                        "To decide here, start it with: refunds console --allow-changes",
                    )
                return await run_in_threadpool(act, request, form)
            except Exception as exc:
                return self._error(exc)

        return endpoint

    def _error(self, exc: Exception) -> Response:
        what, to_do, _ = explain(exc)
        return self.problem(what, *to_do, status=409 if isinstance(exc, CommandError) else 502)


def go_to(path: str) -> Response:
    """The response after a change. Reloading the page that follows repeats nothing."""
    return RedirectResponse(path, 303)


def where_of(console: Console) -> str:
    return console.stack.outputs.get("StackName") or console.stack.where


def money(amount_minor: int | None, currency: str) -> str:
    """Such as "1,234.50 USD"."""
    text = amount_text(amount_minor, currency)
    number, space, unit = text.partition(" ")
    if amount_minor is None or currency not in EXPONENTS:
        return text
    whole, point, minor = number.partition(".")
    return f"{int(whole):,}{point}{minor}{space}{unit}" if whole != "-0" else text


def status_pill(status: str) -> Markup:
    known = status in STATUS_NAMES
    kind = status.lower().replace("_", "-") if known else "unknown"
    name = STATUS_NAMES.get(status) or safe_text(status)
    return Markup('<span class="pill {}">{}</span>').format(kind, name)


def _visible(value: Any) -> Any:
    """Text from outside with every character written out that would hide or reorder others."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return safe_text(value, lines=True)
    return value
