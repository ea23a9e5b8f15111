"""Faults in what is put back, archived, swept and audited."""

from __future__ import annotations

from tests.simulator.mutation import mutant

MUTANTS = (
    mutant(
        "a batch that returns empty after an error",
        (
            "processing.queue:handle_batch",
            "on_result(raw, exc)\n            raise",
            "on_result(raw, exc)\n            return",
        ),
    ),
    mutant(
        "work in progress taken for done",
        (
            "processing.processor:Processor._resume",
            'return Later("another attempt is at work", left)',
            "return Recorded(refund)",
        ),
    ),
    mutant(
        "a refused message is dropped",
        (
            "processing.queue:RefundQueue._refuse",
            "self._client.send_message(",
            "(lambda **message: None)(",
        ),
    ),
    mutant(
        "pending dropped without the open index",
        (
            "processing.recorder:Recorder.finish",
            "closes = to is Status.SUCCEEDED and not corrects",
            "closes = to in (Status.SUCCEEDED, Status.PENDING)",
        ),
    ),
    mutant(
        "still pending, and off the open index",
        (
            "processing.settler:Settler._still_open",
            "left = replace(self.recorder.opened(refund, again=True), lease_until=None)",
            "left = replace(refund, open_since=None, open_shard=None, check_at=None)",
        ),
    ),
    mutant(
        "archived and forgotten",
        (
            "processing.dead_letters:DeadLetterArchiver._move",
            'self._keep_open(message["Body"], sent_by, deadline, '
            'refused="error_code" in attributes)',
            "pass",
        ),
        (
            "processing.settler:Settler._leave",
            "replace(self.recorder.opened(refund, again=True), lease_until=None)",
            "replace(refund, lease_until=None)",
        ),
        (
            "processing.settler:Settler.take_over",
            "            self.recorder.opened(refund),",
            "            refund,",
        ),
    ),
    mutant(
        "a dead letter deleted, not archived",
        (
            "processing.dead_letters:DeadLetterArchiver._move",
            "self._failures.keep(",
            "(lambda *content: None)(",
        ),
    ),
    mutant(
        "late reversals not looked for",
        (
            "processing.reversal_sweep:ReversalSweep._take",
            "for place, shown in enumerate(to_handle):",
            "for place, shown in ():",
        ),
    ),
    mutant(
        "only the first page is swept",
        (
            "processing.reversal_sweep:ReversalSweep._read",
            "next_cursor=page.next_cursor,",
            "next_cursor=None,",
        ),
    ),
    mutant(
        "version not raised",
        (
            "domain.refund:change_status",
            "_next_version(refund, changes,",
            "_next_version(refund, changes, follows=refund.version - 1,",
        ),
    ),
    mutant(
        "the audit chain does not chain",
        (
            "domain.refund:change_status",
            "previous_hash=previous_hash",
            "previous_hash=refund.previous_hash",
        ),
    ),
    mutant(
        "audit entries written over",
        (
            "tables.audit_trail:AuditTable._execute",
            "        try:\n",
            "        for each in statements:\n"
            "            names = each['Statement'].split(\"'\")[1::2]\n"
            "            item = dict(zip(names, each['Parameters']))\n"
            "            self._client.put_item(TableName=self._table, Item=item)\n"
            "        return [None] * len(statements)\n"
            "        try:\n",
        ),
    ),
    mutant(
        "duplicates in the audit trail",
        (
            "audit.writer:AuditWriter._prepare",
            "entry = entry_of(record)\n",
            "entry = entry_of(record)\n"
            "            if entry:\n"
            '                entry["entry_id"] += record["eventID"]\n',
        ),
    ),
    mutant(
        "an audit record that fails is passed over",
        (
            "audit.writer:handle_stream_batch",
            "on_result(record, written)\n            raise written",
            "on_result(record, written)\n            return None",
        ),
    ),
    mutant(
        "a statement that failed counts as stored",
        (
            "tables.audit_trail:AuditTable._execute",
            'return [_error_of(response.get("Error")) for response in answer["Responses"]]',
            'return [None for response in answer["Responses"]]',
        ),
    ),
    mutant(
        "the answers of a request are taken for other entries",
        (
            "tables.audit_trail:AuditTable.insert_new",
            "zip(chunk, answers, strict=True)",
            "zip(chunk, answers[::-1], strict=True)",
        ),
    ),
    mutant(
        "events that the bus did not take are lost",
        ("audit.outcome_events:OutcomeBus._put", 'if answer["FailedEntryCount"]:', "if False:"),
    ),
)
