"""`make fuzz` notices a reader that raises what it doesn't document, and repeats its inputs."""

from __future__ import annotations

import json
from random import Random

import pytest
from tests.fuzz.__main__ import Session, crash
from tests.fuzz.coverage import Coverage
from tests.fuzz.damage import damaged
from tests.fuzz.readers import (
    MESSAGE,
    Reader,
    WrongAnswerError,
    must_not_decline,
    readers,
)

from refunds.backup.export_format import ExportFormatError, md5_base64, read_manifest
from refunds.gateways.contract import Declined


def test_an_undocumented_error_is_a_crash_and_a_refusal_is_not() -> None:
    reader = Reader("x", {}, lambda content: json.loads(content)["id"], (KeyError,))
    assert crash(reader, b"{}") is None
    assert crash(reader, b'{"id": 1}') is None
    assert isinstance(crash(reader, b"["), json.JSONDecodeError)


def test_the_same_seed_gives_the_same_input() -> None:
    assert damaged(MESSAGE, Random("7")) == damaged(MESSAGE, Random("7"))
    assert len({damaged(MESSAGE, Random(seed)) for seed in range(50)}) > 40


def test_every_reader_accepts_its_undamaged_input() -> None:
    for reader in readers():
        reader.read(json.dumps(reader.valid).encode())


def test_readers_survive_damaged_input() -> None:
    for reader in readers():
        for number in range(100):
            assert crash(reader, damaged(reader.valid, Random(number))) is None


def test_an_input_that_reaches_new_lines_is_kept_and_damaged_further() -> None:
    (reader,) = [each for each in readers() if each.name == "request message"]
    session, coverage = Session(reader, Random("7")), Coverage()
    for _ in range(60):
        session.step(coverage)
    assert len(session.kept) > 3
    assert len(coverage) > 50
    coverage.reaches_new_lines(lambda: crash(reader, b"{}"))
    assert not coverage.reaches_new_lines(lambda: crash(reader, b"{}"))


def test_a_declined_answer_to_a_damaged_success_is_a_crash() -> None:
    with pytest.raises(WrongAnswerError):
        must_not_decline(Declined("x", "y"))


@pytest.mark.parametrize("odd", [0, None, ["x"]])
def test_a_manifest_whose_keys_are_no_text_is_refused(odd: object) -> None:
    """Found by `make fuzz`: it ended with an AttributeError."""
    summary = json.dumps({"itemCount": 2, "outputFormat": "DYNAMODB_JSON"}).encode()
    listed = {"dataFileS3Key": odd, "itemCount": 2, "md5Checksum": "x", "etag": "y"}
    files = json.dumps(listed).encode()
    stored = {
        "r/manifest-summary.json": summary,
        "r/manifest-summary.md5": md5_base64(summary).encode(),
        "r/manifest-files.json": files,
        "r/manifest-files.md5": md5_base64(files).encode(),
    }
    with pytest.raises(ExportFormatError, match="not a manifest"):
        read_manifest("r", stored.get)
