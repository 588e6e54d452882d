"""What all users of a connection on an event loop share, and for how long."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest

from airflow_provider_segmind.api.operation import Request, send
from airflow_provider_segmind.exceptions import SegmindAuthError
from airflow_provider_segmind.hooks import session as sessions
from airflow_provider_segmind.hooks.segmind import SegmindHook
from airflow_provider_segmind.hooks.session import session_for

OLD, NEW = "SG_aaaaaaaaaaaaaaaa", "SG_bbbbbbbbbbbbbbbb"
CREDITS = b'{"credits": 7}'
REFUSED = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\n{}"


def connect(monkeypatch, url, key=OLD, name="SEGMIND_DEFAULT", **extra):
    connection = {"conn_type": "segmind", "host": url, "password": key, "extra": extra}
    monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))


@pytest.fixture
def accepting(serve):
    """Start a server that refuses all keys but those given, and keeps the requests that it saw."""

    def start(*keys):
        def respond(_):
            if any(key.encode() in server.seen[-1] for key in keys):
                return [b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(CREDITS), CREDITS)]
            return [REFUSED]

        server = serve(respond)
        return server

    return start


@pytest.fixture
def look_ups(monkeypatch):
    """The ids of the connections that were looked up. The look-up lets the loop run meanwhile, as a real one does."""
    ids = []
    look_up = SegmindHook.asettings

    async def counted(hook):
        ids.append(hook.segmind_conn_id)
        await asyncio.sleep(0)
        return await look_up(hook)

    monkeypatch.setattr(SegmindHook, "asettings", counted)
    return ids


def test_a_hundred_users_look_the_connection_up_once_and_share_one_session(monkeypatch, accepting, look_ups):
    connect(monkeypatch, accepting(OLD).url)

    async def use():
        with await SegmindHook().asession() as session:
            return session

    async def all_of_them():
        return await asyncio.gather(*(use() for _ in range(100)))

    assert len(set(asyncio.run(all_of_them()))) == 1
    assert look_ups == ["segmind_default"]


def test_connections_are_kept_apart(monkeypatch, accepting):
    url = accepting(OLD, NEW).url
    connect(monkeypatch, url)
    connect(monkeypatch, url, NEW, "OTHER")

    async def use_both():
        with await SegmindHook().asession() as one, await SegmindHook("other").asession() as other:
            one.api.limiter.close_until(one.api.clock() + 600)
            assert not other.api.limiter.is_closed(other.api.clock())
            assert one.api.latencies is not other.api.latencies
        return await SegmindHook("other").aget_credits()

    assert asyncio.run(use_both()) == 7


def test_a_user_that_is_cancelled_does_not_end_the_look_up_for_the_others(monkeypatch, accepting, look_ups):
    connect(monkeypatch, accepting(OLD).url)

    async def cancel_the_first():
        first = asyncio.create_task(SegmindHook().aget_credits())
        second = asyncio.create_task(SegmindHook().aget_credits())
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(cancel_the_first()) == 7
    assert len(look_ups) == 1


def test_a_session_that_is_idle_is_closed_and_what_was_learned_stays(monkeypatch, accepting):
    monkeypatch.setattr(sessions, "IDLE_SECONDS", 0.01)
    connect(monkeypatch, accepting(OLD).url)

    async def be_idle():
        with await SegmindHook().asession() as before:
            before.api.latencies.observe("model", 3.0)
        (shared,) = sessions._connections[asyncio.get_running_loop()].values()
        await asyncio.gather(*shared._keepers)
        with await SegmindHook().asession() as after:
            return before, after

    before, after = asyncio.run(be_idle())
    assert before is not after
    assert before.api.latencies is after.api.latencies
    assert before.api.limiter is after.api.limiter


def test_a_session_in_use_is_not_idle(monkeypatch, accepting):
    monkeypatch.setattr(sessions, "IDLE_SECONDS", 0.01)
    connect(monkeypatch, accepting(OLD).url)

    async def use_for_long():
        with await SegmindHook().asession() as session:
            (shared,) = sessions._connections[asyncio.get_running_loop()].values()
            done, _ = await asyncio.wait(shared._keepers, timeout=0.1)
            return done, await session.driver.run(send(Request("GET", session.settings.base_url)))

    done, response = asyncio.run(use_for_long())
    assert done == set()
    assert response.ok


def test_a_key_that_was_rotated_is_used_by_jobs_that_wait_and_the_old_one_is_forgotten(monkeypatch, accepting):
    server = accepting(NEW)
    connect(monkeypatch, server.url, OLD)

    async def rotate():
        with await SegmindHook().asession() as session:
            connect(monkeypatch, server.url, NEW)
            balances = await asyncio.gather(*(SegmindHook().aget_credits() for _ in range(5)))
            return session, balances

    session, balances = asyncio.run(rotate())
    assert balances == [7] * 5
    assert (session.settings.api_key, session.api.secrets) == (NEW, [NEW])
    driver = session.driver
    assert {driver._settings.api_key, driver._api.routing.key, driver._files.routing.key} == {NEW}


def test_a_synchronous_hook_uses_a_rotated_key_too(monkeypatch, accepting):
    server = accepting(NEW)
    connect(monkeypatch, server.url, OLD)
    hook = SegmindHook()
    api = hook.api
    hook.get_conn()
    connect(monkeypatch, server.url, NEW)

    assert hook.get_credits() == 7
    assert (hook.settings.api_key, hook._driver._settings.api_key, api.secrets) == (NEW, NEW, [NEW])
    assert hook.get_conn().get("/v1/get-user-credits").status_code == 200
    hook.close()


def test_a_revoked_key_is_looked_up_once_however_many_jobs_meet_the_401(monkeypatch, accepting, look_ups):
    connect(monkeypatch, accepting(NEW).url, OLD)

    async def ask_often():
        return await asyncio.gather(*(SegmindHook().aget_credits() for _ in range(20)), return_exceptions=True)

    errors = asyncio.run(ask_often())
    assert {type(error) for error in errors} == {SegmindAuthError}
    assert len(look_ups) == 2  # the first to open the session, the second after the 401


def test_a_key_is_not_renewed_from_a_connection_that_leads_to_another_host(monkeypatch, accepting):
    here, elsewhere = accepting(NEW), accepting(NEW)
    connect(monkeypatch, here.url, OLD)

    async def move():
        with await SegmindHook().asession():
            connect(monkeypatch, elsewhere.url, NEW)
            with pytest.raises(SegmindAuthError):
                await SegmindHook().aget_credits()

    asyncio.run(move())
    assert not any(NEW.encode() in request for request in here.seen)
    assert elsewhere.seen == []


def test_a_connection_that_was_edited_is_seen_by_new_users_while_the_others_go_on(monkeypatch, accepting):
    monkeypatch.setattr(sessions, "LOOK_UP_SECONDS", -1.0)
    before, after = accepting(OLD), accepting(OLD)
    connect(monkeypatch, before.url)

    async def edit():
        with await SegmindHook().asession() as old:
            connect(monkeypatch, after.url)
            with await SegmindHook().asession() as new:
                for session in (old, new):
                    await session.driver.run(send(Request("GET", session.settings.base_url)))

    asyncio.run(edit())
    assert len(before.seen) == len(after.seen) == 1


def test_jobs_go_on_with_a_connection_that_cannot_be_read_again(monkeypatch, accepting, caplog):
    monkeypatch.setattr(sessions, "LOOK_UP_SECONDS", -1.0)
    connect(monkeypatch, accepting(OLD).url)

    async def delete():
        with await SegmindHook().asession():
            monkeypatch.delenv("AIRFLOW_CONN_SEGMIND_DEFAULT")
            return await SegmindHook().aget_credits()

    assert asyncio.run(delete()) == 7
    assert "cannot be read again" in caplog.text


def test_a_failed_look_up_is_tried_again_by_the_next_user(monkeypatch, accepting):
    url = accepting(OLD).url

    async def define_late():
        with pytest.raises(Exception, match="segmind_default"):
            await SegmindHook().aget_credits()
        connect(monkeypatch, url)
        return await SegmindHook().aget_credits()

    assert asyncio.run(define_late()) == 7


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # of Python 3.12 and later
def test_a_forked_process_shares_neither_locks_nor_sessions_with_its_parent(monkeypatch, accepting):
    connect(monkeypatch, accepting(OLD).url)
    before = SegmindHook().api.limiter
    with sessions._lock:  # another thread of the parent may hold it at the fork
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)  # a lock that is held forever fails the test
            os._exit(0 if SegmindHook().api.limiter is not before else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert SegmindHook().api.limiter is before


def test_a_triggerer_sends_a_post_with_httpx_and_a_get_with_aiohttp(accepting, monkeypatch):
    server = accepting(OLD)
    connect(monkeypatch, server.url)
    hook = SegmindHook()

    async def send_both():
        with await session_for("segmind_default", hook.asettings) as session:
            for method in ("POST", "GET"):
                await session.driver.run(send(Request(method, f"{server.url}/x")))

    asyncio.run(send_both())
    posted, got = server.seen
    assert (b"\r\nconnection:" in posted.lower(), b"\r\nconnection:" in got.lower()) == (True, False)
    assert posted.startswith(b"POST")
