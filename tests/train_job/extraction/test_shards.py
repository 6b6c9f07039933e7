import pytest

from train_job.extraction.shards import Shard
from transferlite.errors import InputError

URIS = [b"s3://photos/%d.jpg" % index for index in range(500)]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_photo_is_in_one_shard(count: int) -> None:
    shards = [Shard(index, count) for index in range(count)]
    assert all(sum(shard.contains(uri) for shard in shards) == 1 for uri in URIS)
    assert all(any(shard.contains(uri) for uri in URIS) for shard in shards)


def test_subshards_partition_their_shard() -> None:
    shard = Shard(1, 3)
    for uri in URIS:
        assert sum(shard.subshard(index, 4).contains(uri) for index in range(4)) == shard.contains(uri)


@pytest.mark.parametrize("text", ["", "1", "1/", "/2", "2/2", "-1/3", "a/b", "1/2/3", "0/0", "٣/٤"])
def test_invalid_shards_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="shard"):
        Shard.parse(text)


def test_an_array_job_takes_its_shard_from_aws_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_BATCH_JOB_ARRAY_SIZE", raising=False)
    assert Shard.of_this_job() == Shard(0, 1)
    monkeypatch.setenv("AWS_BATCH_JOB_ARRAY_SIZE", "12")
    monkeypatch.setenv("AWS_BATCH_JOB_ARRAY_INDEX", "11")
    assert str(Shard.of_this_job()) == "11/12"
