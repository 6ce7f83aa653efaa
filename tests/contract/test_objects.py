"""The object store's contract: the same for a directory and for S3."""

from __future__ import annotations

import pytest

from mcpops.objects.directory import Directory
from mcpops.objects.s3 import S3
from mcpops.objects.store import Exists, ObjectStore, Unreachable, open_store
from tests.servers import ACCESS, SECRET, s3


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory):
    with s3(tmp_path_factory.mktemp("s3")) as place:
        yield place


@pytest.fixture
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(params=["directory", "s3", "s3 with versions"])
def store(request, tmp_path) -> ObjectStore:
    if request.param == "directory":
        return Directory(tmp_path / "store")
    request.getfixturevalue("credentials")
    place = request.getfixturevalue("seaweed")
    bucket = f"b{abs(hash(request.node.name)) % 10**9}"
    made = S3(bucket=bucket, prefix="shop", **place)
    made._client.create_bucket(Bucket=bucket)
    if "versions" in request.param:
        made._client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return made


def test_what_is_put_can_be_got_and_is_listed(store):
    store.put_new("anchors/2.json", b"two")
    store.put_new("anchors/1.json", b"one")
    store.put_new("other/3.json", b"three")

    assert store.get("anchors/1.json") == b"one"
    assert list(store.names("anchors/")) == ["anchors/1.json", "anchors/2.json"]


def test_the_same_again_is_fine_and_other_content_is_refused(store):
    store.put_new("a", b"one")
    store.put_new("a", b"one")

    with pytest.raises(Exists):
        store.put_new("a", b"two")
    assert store.get("a") == b"one"


def test_what_is_not_there_is_told(store):
    with pytest.raises(KeyError):
        store.get("nothing")
    assert list(store.names("nothing")) == []


def test_over_a_version_that_was_put_by_force_the_first_one_counts(store):
    if not isinstance(store, S3):
        return
    store.put_new("a", b"one")
    versions = store._client.get_bucket_versioning(Bucket=store._bucket).get("Status") == "Enabled"
    store._client.put_object(Bucket=store._bucket, Key="shop/a", Body=b"forged")

    assert store.get("a") == (b"one" if versions else b"forged")


def test_a_store_that_does_not_answer_is_unreachable(tmp_path, credentials):
    for place in (
        S3(bucket="b", endpoint_url="http://127.0.0.1:1", region="us-east-1"),
        Directory(tmp_path / "f" / "d"),
    ):
        (tmp_path / "f").write_text("a file") if not (tmp_path / "f").exists() else None
        with pytest.raises(Unreachable) as caught:
            place.put_new("a", b"x")
        assert caught.value.hint


def test_settings_open_one_or_the_other(tmp_path):
    assert isinstance(open_store({"directory": "anchors"}, tmp_path), Directory)
    assert isinstance(open_store({"s3": {"bucket": "b"}}, tmp_path), S3)
