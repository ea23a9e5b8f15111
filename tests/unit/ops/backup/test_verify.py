"""Whoever tampers with a backup is found out, offline with the public key and in the bucket."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws
from tests.support.backup_parts import BackedUp, LocalSigner, refund

from refunds.backup.digest import Digest, digest_key, signature_key
from refunds_ops.backup.storage import Folder
from refunds_ops.backup.verification import BackupReport, BackupVerification


@pytest.fixture(scope="module")
def backed_up() -> Iterator[BackedUp]:
    """Three backups, of one refund more each."""
    with mock_aws():
        stack = BackedUp.create()
        for number in range(3):
            stack.add(refund(number))
            stack.back_up()
        yield stack


@pytest.fixture(scope="module")
def downloaded(backed_up: BackedUp, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("downloaded")
    for key in backed_up.listed():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(backed_up.object(key))
    return folder


@pytest.fixture
def folder(downloaded: Path, tmp_path: Path) -> Path:
    """What was downloaded, to do anything to. No metadata came along."""
    return Path(shutil.copytree(downloaded, tmp_path / "copy"))


def verify(folder: Path, at_least: int = 0) -> BackupReport:
    return BackupVerification(Folder(folder), [LocalSigner().public_key]).run(at_least=at_least)


def kinds(report: BackupReport) -> set[tuple[str, str]]:
    return {(finding.kind, finding.key) for finding in report.findings}


def digest(folder: Path, sequence: int) -> Digest:
    return Digest.from_bytes((folder / digest_key(sequence)).read_bytes())


def data_key(folder: Path, table: str = "audit", sequence: int = 2) -> str:
    (found,) = [each for each in digest(folder, sequence).exports if each.table == table]
    return found.files[0].key


def sign_again(folder: Path, changed: Digest, signer: LocalSigner) -> None:
    content = changed.to_bytes()
    (folder / changed.key).write_bytes(content)
    (folder / signature_key(changed.sequence)).write_bytes(
        signer.sign(hashlib.sha256(content).digest())
    )


def test_what_was_downloaded_is_whole(folder: Path) -> None:
    report = verify(folder)
    assert not report.findings
    assert not report.notes
    assert (report.digests, report.items) == (3, 3 * (1 + 2 + 3))


def test_the_folder_may_be_the_one_below(folder: Path) -> None:
    assert verify(folder / "refund-backups").items == 18
    with pytest.raises(NotADirectoryError):
        Folder(folder / "refund-backups" / "digests")


@pytest.mark.parametrize("table", ["refunds", "ledger", "audit"])
def test_a_changed_data_file_is_named(folder: Path, table: str) -> None:
    key = data_key(folder, table)
    packed = bytearray((folder / key).read_bytes())
    packed[len(packed) // 2] ^= 1
    (folder / key).write_bytes(packed)
    assert kinds(verify(folder)) == {("modified", key)}


def test_other_rows_well_packed_are_named(folder: Path) -> None:
    key = data_key(folder)
    lines = gzip.decompress((folder / key).read_bytes()).replace(b'"EUR"', b'"USD"')
    (folder / key).write_bytes(gzip.compress(lines))
    assert kinds(verify(folder)) == {("modified", key)}


def test_a_truncated_file_is_named(folder: Path) -> None:
    key = data_key(folder)
    (folder / key).write_bytes((folder / key).read_bytes()[:-7])
    report = verify(folder)
    assert kinds(report) == {("modified", key)}
    assert "7 of" in report.findings[0].what


def test_an_emptied_file_is_named(folder: Path) -> None:
    (folder / data_key(folder)).write_bytes(b"")
    assert kinds(verify(folder)) == {("modified", data_key(folder))}


def test_a_changed_manifest_is_named(folder: Path) -> None:
    root = data_key(folder).split("/data/")[0]
    path = folder / f"{root}/manifest-files.json"
    path.write_bytes(path.read_bytes().replace(b'"itemCount":2', b'"itemCount":1'))
    assert kinds(verify(folder)) == {("modified", f"{root}/manifest-files.json")}


def test_a_deleted_file_is_named(folder: Path) -> None:
    key = data_key(folder)
    (folder / key).unlink()
    assert kinds(verify(folder)) == {("missing", key)}


@pytest.mark.parametrize("template", ["{folder}/other.json.gz", "refund-backups/elsewhere.gz"])
def test_a_moved_file_is_named_with_its_new_place(folder: Path, template: str) -> None:
    key = data_key(folder)
    to = template.format(folder=key.rpartition("/")[0])
    (folder / key).rename(folder / to)
    report = verify(folder)
    assert kinds(report) == {("moved", key)}
    assert to in report.findings[0].what


def test_two_files_that_changed_places_are_named(folder: Path) -> None:
    one, other = data_key(folder, sequence=2), data_key(folder, sequence=3)
    content = (folder / one).read_bytes()
    (folder / one).write_bytes((folder / other).read_bytes())
    (folder / other).write_bytes(content)
    assert kinds(verify(folder)) == {("modified", one), ("modified", other)}


@pytest.mark.parametrize(
    "template", ["{data}/more.json.gz", "{run}/note.txt", "refund-backups/digests/note.txt"]
)
def test_an_extra_file_is_named(folder: Path, template: str) -> None:
    key = data_key(folder)
    extra = template.format(data=key.rpartition("/")[0], run="/".join(key.split("/")[:5]))
    (folder / extra).write_bytes((folder / key).read_bytes())
    assert kinds(verify(folder)) == {("extra", extra)}


def test_a_drill_that_passed_is_not_taken_for_a_run(folder: Path) -> None:
    passed = folder / "refund-backups/drills/2026-11-28T05:01:26.649631Z.json"
    passed.parent.mkdir(parents=True)
    passed.write_bytes(b"{}")
    report = verify(folder)
    assert (report.findings, report.notes) == ([], [])


def test_a_run_that_ended_early_is_no_finding(folder: Path) -> None:
    left = folder / "refund-backups/2026/01/01/20260101T000000Z/refunds/AWSDynamoDB/1-a/_started"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"")
    report = verify(folder)
    assert not report.findings
    assert "20260101T000000Z belongs to no digest" in report.notes[0]


# --- The chain ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sequence", [1, 2])
def test_a_missing_digest_is_a_gap(folder: Path, sequence: int) -> None:
    (folder / digest_key(sequence)).unlink()
    (folder / signature_key(sequence)).unlink()
    assert ("gap", digest_key(sequence)) in kinds(verify(folder))


def test_a_digest_without_its_json_is_a_gap(folder: Path) -> None:
    (folder / digest_key(2)).unlink()
    assert ("gap", digest_key(2)) in kinds(verify(folder))


def test_a_chain_cut_off_at_its_end_is_a_gap_for_whoever_knows_its_length(folder: Path) -> None:
    (folder / digest_key(3)).unlink()
    (folder / signature_key(3)).unlink()
    assert not verify(folder).findings  # the remaining chain is whole; see docs/backup.md
    assert kinds(verify(folder, at_least=3)) == {("gap", digest_key(3))}


def test_a_gap_of_a_million_digests_is_one_finding(folder: Path) -> None:
    forged = replace(digest(folder, 3), sequence=999_999_999_999)
    sign_again(folder, forged, LocalSigner("thief"))
    report = verify(folder)
    assert ("gap", digest_key(4)) in kinds(report)
    assert len(report.findings) == 2


def test_a_changed_digest_is_named(folder: Path) -> None:
    path = folder / digest_key(2)
    path.write_bytes(path.read_bytes().replace(b'"itemCount": 2', b'"itemCount": 1', 1))
    assert {("modified", digest_key(2)), ("chain", digest_key(3))} <= kinds(verify(folder))


def test_a_digest_that_can_not_be_read_is_named(folder: Path) -> None:
    (folder / digest_key(2)).write_bytes(b"{}")
    assert ("modified", digest_key(2)) in kinds(verify(folder))


def test_a_digest_signed_by_another_key_is_named(folder: Path) -> None:
    thief = LocalSigner("thief")
    sign_again(folder, replace(digest(folder, 2), fingerprint=thief.fingerprint()), thief)
    assert ("signature", digest_key(2)) in kinds(verify(folder))


def test_another_keys_signature_under_our_keys_name_is_found(folder: Path) -> None:
    sign_again(folder, digest(folder, 2), LocalSigner("thief"))
    assert ("modified", digest_key(2)) in kinds(verify(folder))


def test_a_whole_chain_signed_again_by_another_key_is_found(folder: Path) -> None:
    thief = LocalSigner("thief")
    for sequence in (1, 2, 3):
        sign_again(
            folder, replace(digest(folder, sequence), fingerprint=thief.fingerprint()), thief
        )
    found = kinds(verify(folder))
    assert {("signature", digest_key(sequence)) for sequence in (1, 2, 3)} <= found


def test_a_digest_in_anothers_place_is_moved(folder: Path) -> None:
    for key in (digest_key, signature_key):
        (folder / key(3)).write_bytes((folder / key(2)).read_bytes())
    assert ("moved", digest_key(3)) in kinds(verify(folder))


def test_a_missing_signature_is_named(folder: Path) -> None:
    (folder / signature_key(2)).unlink()
    assert ("missing", signature_key(2)) in kinds(verify(folder))


@pytest.mark.parametrize("content", [b"", b"no signature"])
def test_a_damaged_signature_is_named(folder: Path, content: bytes) -> None:
    (folder / signature_key(2)).write_bytes(content)
    assert ("modified", digest_key(2)) in kinds(verify(folder))


def test_a_second_beginning_is_named(folder: Path) -> None:
    # Even the key's owner can't start anew in the middle.
    sign_again(folder, replace(digest(folder, 3), previous=None), LocalSigner())
    assert ("chain", digest_key(3)) in kinds(verify(folder))


def test_keys_of_a_digest_lead_nowhere_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"")
    storage = Folder(folder)
    with pytest.raises(Exception, match="secret"), storage.open("../secret"):
        pass


# --- In the bucket --------------------------------------------------------------------------------


@pytest.fixture
def in_bucket(stack: BackedUp) -> BackedUp:
    stack.add(refund(1))
    stack.back_up()
    stack.back_up()
    assert not stack.verify().findings
    return stack


def some_data(stack: BackedUp) -> str:
    return next(key for key in stack.listed() if "/audit/" in key and "/data/" in key)


def overwrite(
    stack: BackedUp, key: str, content: bytes, metadata: dict[str, str] | None = None
) -> None:
    stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=content, Metadata=metadata or {})


def test_a_version_on_top_is_found_even_with_the_same_bytes(in_bucket: BackedUp) -> None:
    key = some_data(in_bucket)
    overwrite(in_bucket, key, in_bucket.object(key))
    assert kinds(in_bucket.verify()) == {("overwritten", key)}


def test_a_delete_marker_is_found(in_bucket: BackedUp) -> None:
    key = some_data(in_bucket)
    in_bucket.s3.delete_object(Bucket=in_bucket.bucket, Key=key)
    assert kinds(in_bucket.verify()) == {("missing", key), ("deleted", key)}


def test_the_newest_digest_hidden_by_delete_markers_is_found(in_bucket: BackedUp) -> None:
    for key in (digest_key(2), signature_key(2)):
        in_bucket.s3.delete_object(Bucket=in_bucket.bucket, Key=key)
    assert {("deleted", digest_key(2)), ("deleted", signature_key(2))} <= kinds(in_bucket.verify())


def without_metadata(stack: BackedUp) -> None:
    overwrite(stack, digest_key(1), stack.object(digest_key(1)))


def without_sig(stack: BackedUp) -> None:
    versions = stack.s3.list_object_versions(Bucket=stack.bucket, Prefix=signature_key(1))
    stack.s3.delete_object(
        Bucket=stack.bucket, Key=signature_key(1), VersionId=versions["Versions"][0]["VersionId"]
    )


def with_other_metadata(stack: BackedUp) -> None:
    overwrite(stack, digest_key(1), stack.object(digest_key(1)), {"signature": "00" * 256})


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        # The .sig is enough; that somebody wrote again is a finding all the same.
        (without_metadata, {("overwritten", digest_key(1))}),
        (without_sig, {("missing", signature_key(1))}),
        (with_other_metadata, {("modified", digest_key(1)), ("overwritten", digest_key(1))}),
    ],
)
def test_either_copy_of_the_signature_is_enough_and_both_are_checked(
    in_bucket: BackedUp,
    tamper: Callable[[BackedUp], None],
    expected: set[tuple[str, str]],
) -> None:
    tamper(in_bucket)
    assert expected <= kinds(in_bucket.verify())
    assert not {kind for kind, _ in kinds(in_bucket.verify())} - {
        "overwritten",
        "missing",
        "modified",
    }


def test_only_the_files_of_chosen_backups_count(in_bucket: BackedUp) -> None:
    # The first has expired: a lifecycle rule leaves delete markers.
    first = in_bucket.object(digest_key(1)).decode()
    expired = [key for key in in_bucket.listed() if key in first and key.endswith(".gz")]
    for key in expired:
        in_bucket.s3.delete_object(Bucket=in_bucket.bucket, Key=key)
    assert expired
    assert kinds(in_bucket.verify()) == {
        (kind, key) for key in expired for kind in ("missing", "deleted")
    }
    assert not in_bucket.verify(data_of=lambda digest: digest.sequence == 2).findings
    overwrite(in_bucket, digest_key(1), in_bucket.object(digest_key(1)))
    report = in_bucket.verify(data_of=lambda digest: digest.sequence == 2)
    assert kinds(report) == {("overwritten", digest_key(1))}


def test_a_stray_is_hashed_once_however_many_files_are_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = data_key(folder).split("/refunds/")[0].split("/audit/")[0]
    (folder / run / "stray").write_bytes(b"")
    manifests = [each for each in digest(folder, 2).exports[0].manifests if "summary" in each.key]
    for each in manifests:
        (folder / each.key).unlink()
    opened: list[str] = []
    opening = Folder.open

    def counted(storage: Folder, key: str) -> Any:
        opened.append(key)
        return opening(storage, key)

    monkeypatch.setattr(Folder, "open", counted)
    verify(folder)
    assert opened.count(f"{run}/stray") == 1
