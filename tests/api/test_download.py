"""Result files: from trusted hosts only, whole or not at all."""

from __future__ import annotations

import hashlib
import io

import pytest
from PIL import Image

from airflow_provider_segmind.api.download import download, is_trusted
from airflow_provider_segmind.api.models import JobState, SegmindOutput, SegmindResult
from airflow_provider_segmind.api.operation import Response
from airflow_provider_segmind.exceptions import SegmindOutputError

from .world import CUT, ID, NOON, REFUSED, World, always, answer, broken_off, html

URL = "https://images.segmind.com/a.png"


def picture(kind="PNG", size=(31, 17)):
    file = io.BytesIO()
    Image.effect_noise(size, 50).convert("RGB").save(file, kind)
    return file.getvalue()


PNG = picture()


def fetch(world, script, *, image=True, **output):
    world.file = io.BytesIO()
    output = output or {"url": URL}
    found = SegmindResult(ID, JobState.COMPLETED, (SegmindOutput(**output),))
    return world.run(download(world.api, found, world.file, image=image), script)


def file_reply(body=PNG, length=None, **headers):
    return answer(200, body, content_length=str(len(body) if length is None else length), **headers)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_file_is_fetched_without_the_key_and_described(world, kind):
    body = picture(kind)
    found = fetch(world, [file_reply(body)])
    assert (found.size, found.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert (found.content_type, found.width, found.height) == (f"image/{kind.lower()}", 31, 17)
    assert world.file.getvalue() == body
    assert [send.with_key for send in world.sends] == [False]


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        (URL, True),
        ("https://IMAGES.Segmind.com:8443/a", True),
        ("HTTPS://images.segmind.com/a", True),
        ("https://segmind-resources.s3.amazonaws.com/a", True),
        ("https://api.segmind.com/a", True),
        ("https://images.segmind.com./a", True),
        ("https://cdn.mine.example/a", True),
        ("https://other.mine.example/a", False),
        ("http://images.segmind.com/a", False),
        ("ftp://images.segmind.com/a", False),
        ("//images.segmind.com/a", False),
        ("images.segmind.com/a", False),
        ("https://evilsegmind.com/a", False),
        ("https://segmind.com.evil.com/a", False),
        ("https://images.segmind.com.evil.com/a", False),
        ("https://evil.com/images.segmind.com", False),
        ("https://evil.com?.segmind.com", False),
        ("https://evil.com#.segmind.com", False),
        ("https://images.segmind.com@evil.com/a", False),
        ("https://user:pw@images.segmind.com/a", False),
        ("https://evil.com\\.segmind.com/a", False),
        ("https://evil.com\\@images.segmind.com/a", False),
        ("https://images.segmind.com:99999/a", False),
        ("https://images.segmind.com:x/a", False),
        ("https://images.segm\u0131nd.com/a", False),
        ("https://evil.com\uff0f.segmind.com/a", False),
        ("https://x.segmind.com。evil.com/a", False),
        ("https://[::1/a", False),
        ("https://127.0.0.1/a", False),
        ("https:///a", False),
        ("", False),
    ],
)
def test_only_some_hosts_are_trusted(url, trusted):
    world = World(output_hosts=("cdn.mine.example",))
    assert is_trusted(world.api, url) is trusted
    if not trusted:
        with pytest.raises(SegmindOutputError, match="not trusted"):
            fetch(world, [], url=url)
        assert world.sends == []


@pytest.mark.parametrize(("base", "trusted"), [("http://127.0.0.1:8765", True), ("https://127.0.0.1", False)])
def test_http_is_trusted_only_where_the_base_url_has_it(base, trusted):
    assert is_trusted(World(base_url=base).api, "http://127.0.0.1:9/a.png") is trusted


def test_a_redirect_between_trusted_hosts_is_followed(world):
    script = [answer(302, location="https://cdn.segmind.com/b"), answer(307, location="/c"), file_reply()]
    assert fetch(world, script).size == len(PNG)
    assert world.urls()[1:] == ["https://cdn.segmind.com/b", "https://cdn.segmind.com/c"]
    assert not any(send.with_key for send in world.sends)


@pytest.mark.parametrize(
    "target",
    ["https://evil.com/a", "http://images.segmind.com/a", "//evil.com/a", "file:///etc/passwd", "https://[::1"],
)
def test_a_redirect_elsewhere_is_not_followed(world, target):
    with pytest.raises(SegmindOutputError):
        fetch(world, [answer(302, location=target)])
    assert len(world.sends) == 1


def test_a_redirect_in_circles_ends(world):
    with pytest.raises(SegmindOutputError, match="circles"):
        fetch(world, always(answer(302, location=URL)))
    assert len(world.sends) <= 6


BROKEN = [
    file_reply(PNG[:-9], len(PNG)),
    file_reply(PNG + b"x" * 9, len(PNG)),
    file_reply(PNG[:-9]),
    file_reply(b""),
    html(200),
    html(403),
    html(503),
    answer(204, b""),
    Response(200, {}, PNG, cut="it took too long to come"),
    CUT,
    REFUSED,
    broken_off(PNG[:500]),
]


@pytest.mark.parametrize("reply", BROKEN)
def test_a_file_that_is_not_whole_is_fetched_again(world, reply):
    assert fetch(world, [reply, file_reply()]).sha256 == hashlib.sha256(PNG).hexdigest()
    assert world.file.getvalue() == PNG


@pytest.mark.parametrize("reply", BROKEN)
def test_but_not_for_ever(world, reply):
    with pytest.raises(SegmindOutputError, match="after 5 tries") as caught:
        fetch(world, always(reply))
    assert (len(world.sends), caught.value.request_id) == (5, ID)
    assert world.clock() - NOON <= 60


def test_a_shorter_second_try_leaves_nothing_of_the_first(world):
    fetch(world, [file_reply(PNG + b"x" * 5000, 9), file_reply()])
    assert world.file.getvalue() == PNG


def test_the_declared_size_counts_where_the_host_names_none(world):
    with pytest.raises(SegmindOutputError, match="bytes"):
        fetch(world, always(answer(200, PNG)), url=URL, file_size=len(PNG) + 1)


@pytest.mark.parametrize("reply", [file_reply(), answer(200, PNG), answer(200, b"", content_length="9" * 15)])
def test_a_file_larger_than_the_cap_is_refused_at_once(reply):
    world = World(max_result_bytes=len(PNG) - 1)
    with pytest.raises(SegmindOutputError, match="max_result_mb"):
        fetch(world, [reply])
    assert len(world.file.getvalue()) < len(PNG)


@pytest.mark.parametrize("length", ["", "x", "-1", "1e3", "9" * 30, "²"])
def test_a_senseless_length_is_none(world, length):
    assert fetch(world, [answer(200, PNG, content_length=length)]).size == len(PNG)


def test_an_inline_result_needs_no_request(world):
    found = fetch(world, [], data=PNG, content_type="image/png")
    assert (found.size, found.width, world.sends) == (len(PNG), 31, [])


@pytest.mark.parametrize("data", [b"no image", b"", PNG[:60]])
def test_an_inline_result_that_is_no_image_is_told_at_once(world, data):
    with pytest.raises(SegmindOutputError, match="after 1 tries"):
        fetch(world, [], data=data)


def test_a_result_without_a_file_is_told(world):
    with pytest.raises(SegmindOutputError, match="without a file"):
        world.run(download(world.api, SegmindResult(ID, JobState.COMPLETED), io.BytesIO()), [])


def test_a_signed_address_is_not_told(world):
    with pytest.raises(SegmindOutputError) as caught:
        fetch(world, always(html(403)), url=URL + "?X-Amz-Signature=secret")
    assert "secret" not in str(caught.value)
