"""WriteAudit with a batch of 1,000 stream records of 500 refunds, at 5 ms a write."""

from __future__ import annotations

from benchmarks.batch import AUDIT, OURS, whole
from benchmarks.requests_to_make import sqs_event
from benchmarks.results import Result, median_result, ratio_result
from benchmarks.servers import CannedServer
from benchmarks.worker import worker

REFUNDS = 500
DELAYS = {"dynamodb": 0.005, "aws": 0.005}


def audit_results(server: CannedServer, runs: int) -> list[Result]:
    """Ours also hashes, chains and publishes 500 events. The baseline only writes."""
    server.reset(stream_of="Refunds")
    with worker(OURS, server.url) as process:
        for _ in range(REFUNDS // 50):
            whole(process.invoke(sqs_event(50)))
    event = {"Records": server.stream()}
    if len(event["Records"]) != 2 * REFUNDS:
        raise RuntimeError("the stream must have two records for each refund")
    ours: list[float] = []
    theirs: list[float] = []
    with (
        worker(AUDIT, server.url) as writer,
        worker("benchmarks.baselines.write_audit", server.url) as baseline,
    ):
        server.reset()
        for each in (writer, baseline):
            whole(each.invoke({"Records": event["Records"][:20]}))
        server.reset(delays=DELAYS)
        for _ in range(runs):
            ours.append(whole(writer.invoke(event)).wall)
            theirs.append(whole(baseline.invoke(event)).wall)
    return [
        median_result("audit writer: 1,000 records", ours, "s", baseline=theirs),
        ratio_result(
            "audit writer: throughput / sequential", theirs, ours, better="higher", target=5.0
        ),
    ]
