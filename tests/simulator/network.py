"""The network between the functions and the gateway: calls that arrive or don't, answers that come
back or don't."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from tests.simulator.gateway import Flair
from tests.simulator.kernel import Kernel, Mailbox, Task

from refunds.domain.clock import Deadline
from refunds.gateways.http import HttpResponse, NoAnswerError, NotSentError

LATEST_ARRIVAL_SECONDS = 120.0
"""How long a request may be under way when its caller has given up. Part of KEY_MARGIN's case."""


class Network:
    """The ``HttpTransport``: calls that arrive or don't, answers that come back or don't.

    ``foreign_read`` keeps, by task and payment, what others had refunded when the task read it.
    """

    def __init__(self, kernel: Kernel, flair: Flair) -> None:
        self._kernel = kernel
        self._flair = flair
        self.foreign_read: dict[tuple[int, str], int] = {}
        self.outage: str | None = None
        """What a gateway that is down does: "refuses", "is silent" or "answers 503"."""
        self.outage_at = "https://"
        """How the addresses begin that are down; the others answer."""

    def request(  # noqa: C901 - each branch is one way to fail
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: Deadline,
    ) -> HttpResponse:
        kernel, dice = self._kernel, self._kernel.random
        told = f"{method} {url.removeprefix('https://flair/v1').partition('?created_from')[0]}"
        if body is not None:
            told += f" {headers['Idempotency-Key']}"
        left = deadline.left_seconds()
        if left <= 0:
            raise NotSentError("no time left")
        kernel.step(f"gateway {method}", 0.01)
        left = deadline.left_seconds()
        if left <= 0 or kernel.fault("network refuses"):
            kernel.log("refused", told)
            raise NotSentError("refused")
        kernel.counts[f"gateway {method}s"] += 1
        if self.outage is not None and url.startswith(self.outage_at):
            return self._down(left)
        box = Mailbox()
        task = kernel.task()

        def reply(response: HttpResponse) -> None:
            answer_lost = kernel.fault("network loses the answer")
            if kernel.fault("network answers with HTML"):
                status = dice.choice((200, 201, 400, 404, 422, 502))
                response = HttpResponse(status, {}, b"<html>Bad day</html>")
            kernel.log("gateway", f"{response.status} to {told}{' (lost)' * answer_lost}")
            self._remember(task, url)
            if not answer_lost:
                kernel.after(0.02 * dice.random(), lambda: kernel.post(box, response))

        def arrive() -> None:
            self._flair.answer(method, url, headers, body, reply)

        if kernel.fault("network loses the request"):
            kernel.log("lost", told)
        elif method == "POST" and kernel.fault("network delays the request"):
            kernel.log("delayed", told)
            kernel.after(left + dice.uniform(0, LATEST_ARRIVAL_SECONDS), arrive)
        else:
            kernel.after(0.02 * dice.random(), arrive)
        response: HttpResponse | None = kernel.wait(box, left)
        if response is None:
            kernel.log("timeout", told)
            raise NoAnswerError("timed out")
        kernel.observed(response)
        kernel.step(f"gateway {method}, done", 0.005)
        return response

    def _down(self, left: float) -> HttpResponse:
        match self.outage:
            case "refuses":
                raise NotSentError("refused")
            case "is silent":
                self._kernel.pause(left)
                raise NoAnswerError("timed out")
        self._kernel.pause(0.1)
        return HttpResponse(503, {}, b"<html>maintenance</html>")

    def _remember(self, task: Task | None, url: str) -> None:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        transaction_id = query.get("transaction_id", parts.path.removeprefix("/v1/payments/"))
        if transaction_id not in self._flair.payments:
            return
        foreign = self._flair.live_of_others(transaction_id)
        place = (id(task), transaction_id)
        if "transaction_id" in query:
            # A list may lag: what moved since the payment was read need not be in it.
            foreign = min(foreign, self.foreign_read.get(place, foreign))
        self.foreign_read[place] = foreign
