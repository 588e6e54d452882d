"""Which requests a fault strikes, and how faults are added and removed."""

from __future__ import annotations

import httpx
import pytest

from airflow_provider_segmind.emulator.fault_effects import EFFECTS

from .conftest import HISTORY, MODEL
from .photos import inline, photo


def test_a_fault_counts_only_matching_requests(client, emulator, image_host):
    image_host.files["/dog.png"] = photo()
    emulator.faults.add("error", image="dog.png", nth=2)
    images = ["cat", "dog", "cat", "dog", "dog"]
    assert [client.submit(f"{image_host.url}/{name}.png").status_code for name in images] == [200, 200, 200, 500, 200]


def test_a_fault_matches_polls_and_files_by_the_image_of_their_job(client, emulator, image_host):
    emulator.faults.add("error", on=["result", "file"], image="cat.png", times=None)
    cat, other = client.submitted(f"{image_host.url}/cat.png"), client.submitted()
    assert client.finished(cat).status_code == 500
    assert client.get(client.finished(other).json()["output"]).status_code == 200
    assert client.get(f"/generations/{cat}.png").status_code == 500


def test_each_image_counts_requests_per_image(client, emulator, image_host):
    emulator.faults.add("error", each_image=True)
    images = [f"{image_host.url}/{name}.png?signature={n}" for n in range(2) for name in ("cat", "dog")]
    assert [client.submit(image).status_code for image in images] == [500, 500, 200, 200]


def test_a_fault_can_be_limited_to_a_model(client, emulator):
    emulator.faults.add("error", model="seedream-4.5")
    assert client.submit().status_code == 200
    assert client.post("/v2/seedream-4.5", json={"prompt": "x"}).status_code == 500


@pytest.mark.segmind_emulator(seed=1)
def test_a_fault_can_strike_with_a_probability(client, emulator):
    switch = emulator.faults.add("error", on="credits", times=None, probability=0.5)
    for _ in range(40):
        client.get("/v1/get-user-credits")
    assert switch.seen == 40
    assert 5 < switch.struck < 35


def test_several_faults_can_strike_the_same_request(client, emulator):
    emulator.faults.add("job_fails", text="no luck")
    emulator.faults.add("cut_after_accept")
    with pytest.raises(httpx.RemoteProtocolError):
        client.submit()
    assert client.finished(emulator.jobs[0].request_id).json()["error"] == "no luck"


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("no_such_fault", {}, "Unknown fault"),
        ("slow", {"on": "postman"}, "Unknown kinds of request"),
        ("slow", {"nth": 0}, "Invalid nth=0"),
        ("slow", {"times": 0}, "times=0"),
        ("slow", {"minutes": 3}, "Unknown options"),
        ("slow", {"seconds": "3"}, "Use a number"),
        ("redirect", {}, "Missing option 'url'"),
        ("redirect", {"url": 3}, "Use a string"),
        ("error", {"style": "xml"}, "Use one of"),
    ],
)
def test_an_invalid_switch_is_rejected_in_python_and_over_http(client, emulator, name, options, text):
    with pytest.raises(ValueError, match=text):
        emulator.faults.add(name, **options)
    response = client.switch_on(name, **options)
    assert response.status_code == 400
    assert text in response.json()["error"]
    assert emulator.faults.all() == []


def test_faults_are_added_listed_and_removed_over_http(client, emulator):
    response = client.post(
        "/emulator/faults",
        json=[{"name": "error", "status": 503}, {"name": "raw", "on": "credits", "body_base64": "/w=="}],
    )
    first, second = response.json()
    assert response.status_code == 201
    assert client.submit().status_code == 503
    assert client.get("/v1/get-user-credits").content == b"\xff"
    assert [(fault["name"], fault["struck"]) for fault in client.get("/emulator/faults").json()] == [
        ("error", 1),
        ("raw", 1),
    ]
    assert client.delete(f"/emulator/faults/{first['id']}").status_code == 204
    assert client.delete(f"/emulator/faults/{first['id']}").status_code == 404
    assert [fault["id"] for fault in client.get("/emulator/faults").json()] == [second["id"]]
    assert client.delete("/emulator/faults").status_code == 204
    assert client.get("/emulator/faults").json() == []


def test_a_list_of_faults_is_added_completely_or_not_at_all(client, emulator):
    response = client.post("/emulator/faults", json=[{"name": "slow"}, {"name": "none"}])
    assert response.status_code == 400
    assert emulator.faults.all() == []


@pytest.mark.parametrize("body", [b"", b"3", b'{"on": "submit"}', b'{"name": "raw", "body_base64": "%"}'])
def test_an_invalid_request_body_for_a_switch_is_a_400(client, body):
    assert client.post("/emulator/faults", content=body).status_code == 400


@pytest.mark.parametrize("name", sorted(EFFECTS))
def test_every_fault_can_strike_every_kind_of_request_without_a_server_error(client, connect, emulator, name):
    needed = {"url": "http://decoy.test/"} if name in ("redirect", "foreign_url") else {}
    needed |= {"seconds": 0.0} if name in ("job_takes", "slow", "drip") else {}
    emulator.faults.add(name, on="any", times=None, **needed)
    hasty = connect(emulator, timeout=0.1)
    for method, path, body in [
        ("POST", f"/v2/{MODEL}", {"image": inline(photo())}),
        ("POST", "/v1/llava-v1.6", {"image": "no!"}),
        ("GET", "/v1/get-user-credits", None),
        ("GET", "/v2/requests/x/status", None),
        ("GET", "/generations/x.png", None),
        ("GET", HISTORY, None),
        ("POST", "/upload-asset", {"data_urls": ["data:image/png;base64,AAAA"]}),
        ("GET", "/nowhere", None),
    ]:
        try:
            with hasty.stream(method, path, json=body) as response:
                assert response.headers.get("content-type", "") != "text/plain; charset=utf-8", (
                    "the server raised an error"
                )
        except httpx.TransportError:
            continue
    emulator.faults.clear()
    assert client.get("/v1/get-user-credits").status_code == 200
