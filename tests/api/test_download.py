"""Result files: from trusted hosts only, whole or not at all."""

from __future__ import annotations

import hashlib

import pytest

from airflow_provider_segmind.api.download import FILE_KEPT_SECONDS, download, file_is_gone, is_trusted, public_outputs
from airflow_provider_segmind.api.models import JobState, SegmindOutput, SegmindResult
from airflow_provider_segmind.api.operation import Response
from airflow_provider_segmind.exceptions import SegmindOutputError

from .memory_sink import MemorySink
from .world import CUT, ID, NOON, REFUSED, World, always, broken_off, error, html, response

URL = "https://images.segmind.com/a.png"
SIGNED = URL + "?X-Amz-Signature=secret"
FILE = bytes(range(256)) * 20


def fetch(world, script, *, max_bytes=10**6, **output):
    world.sink = MemorySink(FILE, max_bytes)
    found = SegmindResult(ID, JobState.COMPLETED, (SegmindOutput(**(output or {"url": URL})),))
    return world.run(download(world.api, found, world.sink), script)


def file_reply(body=FILE, length=None, **headers):
    return response(200, body, content_length=str(len(body) if length is None else length), **headers)


def test_a_file_is_downloaded_without_the_api_key(world):
    found = fetch(world, [file_reply()])
    assert (found.size, found.sha256) == (len(FILE), hashlib.sha256(FILE).hexdigest())
    assert [request.with_key for request in world.requests] == [False]


@pytest.mark.parametrize(
    ("output", "header", "declared"),
    [
        ({"url": URL, "content_type": "image/webp"}, "image/jpeg", "image/webp"),
        ({"url": URL}, "text/html", "image/png"),
        ({"url": "https://images.segmind.com/a"}, "image/jpeg", "image/jpeg"),
        ({"data": FILE, "content_type": "image/webp"}, None, "image/webp"),
        ({"data": FILE}, None, None),
    ],
)
def test_the_media_type_is_declared_by_the_api_then_the_name_then_the_host(world, output, header, declared):
    fetch(world, [file_reply(content_type=header)], **output)
    assert world.sink.declared == declared


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
def test_files_are_downloaded_from_trusted_hosts_only(url, trusted):
    world = World(output_hosts=("cdn.mine.example",))
    assert is_trusted(world.api, url) is trusted
    if not trusted:
        with pytest.raises(SegmindOutputError, match="not trusted"):
            fetch(world, [], url=url)
        assert world.requests == []


@pytest.mark.parametrize(("base", "trusted"), [("http://127.0.0.1:8765", True), ("https://127.0.0.1", False)])
def test_http_is_trusted_only_if_the_base_url_uses_it(base, trusted):
    assert is_trusted(World(base_url=base).api, "http://127.0.0.1:9/a.png") is trusted


def test_a_redirect_between_trusted_hosts_is_followed(world):
    script = [response(302, location="https://cdn.segmind.com/b"), response(307, location="/c"), file_reply()]
    assert fetch(world, script).size == len(FILE)
    assert world.urls()[1:] == ["https://cdn.segmind.com/b", "https://cdn.segmind.com/c"]
    assert not any(request.with_key for request in world.requests)


@pytest.mark.parametrize(
    "target",
    ["https://evil.com/a", "http://images.segmind.com/a", "//evil.com/a", "file:///etc/passwd", "https://[::1"],
)
def test_a_redirect_to_an_untrusted_address_is_not_followed(world, target):
    with pytest.raises(SegmindOutputError):
        fetch(world, [response(302, location=target)])
    assert len(world.requests) == 1


def test_a_redirect_loop_ends_with_an_error(world):
    with pytest.raises(SegmindOutputError, match="redirected"):
        fetch(world, always(response(302, location=URL)))
    assert len(world.requests) <= 6


BROKEN = [
    file_reply(FILE[:-9], len(FILE)),
    file_reply(FILE + b"x" * 9, len(FILE)),
    file_reply(FILE[:-9]),
    file_reply(b""),
    html(200),
    html(403),
    html(503),
    response(204, b""),
    Response(200, {}, FILE, truncated="not whole in time"),
    CUT,
    REFUSED,
    broken_off(FILE[:500]),
]


@pytest.mark.parametrize("reply", BROKEN)
def test_an_unusable_file_is_downloaded_again(world, reply):
    assert fetch(world, [reply, file_reply()]).sha256 == hashlib.sha256(FILE).hexdigest()
    assert world.sink.content == FILE


@pytest.mark.parametrize("reply", BROKEN)
def test_an_unusable_file_is_given_up_after_five_attempts(world, reply):
    with pytest.raises(SegmindOutputError, match="after 5 attempts") as caught:
        fetch(world, always(reply))
    assert (len(world.requests), caught.value.request_id) == (5, ID)
    assert world.clock() - NOON <= 60


def test_a_shorter_second_attempt_leaves_nothing_of_the_first(world):
    fetch(world, [file_reply(FILE + b"x" * 5000, 9), file_reply()])
    assert world.sink.content == FILE


def test_a_file_is_checked_against_the_size_that_the_api_declares(world):
    with pytest.raises(SegmindOutputError, match="bytes"):
        fetch(world, always(response(200, FILE)), url=URL, file_size=len(FILE) + 1)


@pytest.mark.parametrize("reply", [file_reply(), response(200, FILE), response(200, b"", content_length="9" * 15)])
def test_a_file_that_the_sink_refuses_is_not_downloaded_again(world, reply):
    with pytest.raises(SegmindOutputError, match="too large"):
        fetch(world, [reply], max_bytes=len(FILE) - 1)
    assert len(world.requests) == 1


def test_an_inline_result_needs_no_request(world):
    found = fetch(world, [], data=FILE, content_type="image/png")
    assert (found.size, world.requests) == (len(FILE), [])


@pytest.mark.parametrize("data", [b"not the file", b"", FILE[:60]])
def test_an_unusable_inline_result_is_an_error_at_once(world, data):
    with pytest.raises(SegmindOutputError, match="after 1 attempt:"):
        fetch(world, [], data=data)


def test_a_result_without_outputs_is_an_error(world):
    with pytest.raises(SegmindOutputError, match="without a file"):
        world.run(download(world.api, SegmindResult(ID, JobState.COMPLETED), MemorySink()), [])


def test_an_error_does_not_show_a_signed_address(world):
    with pytest.raises(SegmindOutputError) as caught:
        fetch(world, always(html(403)), url=SIGNED)
    assert "secret" not in str(caught.value)


def outputs(*urls):
    return SegmindResult(ID, JobState.COMPLETED, tuple(SegmindOutput(url=url) for url in urls))


@pytest.mark.parametrize(
    ("urls", "public"),
    [
        ([URL, URL + "2"], [URL, URL + "2"]),
        ([URL, SIGNED, None, "https://evil.com/a.png", URL + "2"], [URL, URL + "2"]),
        ([SIGNED, URL], []),
        ([None, URL], []),
        ([], []),
    ],
)
def test_the_public_outputs_are_the_trusted_unsigned_ones_unless_the_first_is_none_of_them(world, urls, public):
    assert public_outputs(world.api, outputs(*urls)) == tuple(public)


def gone(world, script, made_at=NOON, url=URL):
    return world.run(file_is_gone(world.api, url, made_at), script)


OLD = NOON - FILE_KEPT_SECONDS - 1


NO_SUCH_KEY = response(404, "<Error><Code>NoSuchKey</Code></Error>", content_type="application/xml")


@pytest.mark.parametrize("reply", [error(404), error(410), NO_SUCH_KEY])
def test_a_file_is_gone_once_its_host_has_said_so_twice(world, reply):
    assert gone(world, [reply, CUT, reply])
    assert all(not request.with_key and request.method == "GET" for request in world.requests)


@pytest.mark.parametrize("reply", [CUT, html(503), html(403), response(206, b"x")])
def test_a_file_is_not_gone_where_its_host_does_not_say_so(world, reply):
    assert not gone(world, always(reply))


def test_a_file_that_one_of_two_responses_has_is_not_gone(world):
    assert not gone(world, [error(404), response(200, b"x")])


@pytest.mark.parametrize("code", [403, 404])
def test_any_refusal_means_gone_for_a_file_of_about_seven_days(world, code):
    assert gone(world, always(html(code)), made_at=OLD)


@pytest.mark.parametrize("made_at", [NOON, None])
@pytest.mark.parametrize("page", [html(404), response(404, "default backend - 404"), response(404, b"")])
def test_a_404_that_is_not_a_storages_own_proves_nothing_for_a_young_file(world, page, made_at):
    assert not gone(world, always(page), made_at=made_at)


@pytest.mark.parametrize(("made_at", "url"), [(None, URL), (NOON, URL), (OLD, SIGNED)])
def test_a_403_proves_nothing_for_a_young_file_a_signed_address_or_an_unknown_time(world, made_at, url):
    assert not gone(world, always(html(403)), made_at=made_at, url=url)


def test_a_404_of_the_storage_means_gone_even_if_the_time_of_the_job_is_unknown(world):
    assert gone(world, always(error(404)), made_at=None)


def test_an_untrusted_host_is_not_asked_whether_a_file_is_gone(world):
    assert not gone(world, [], url="https://evil.com/a.png")
