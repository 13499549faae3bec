"""The bench itself: each fault of the fake Hub really reaches the real client, the killer kills, the disk fills up."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import socket
import time
import urllib.request
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm.auto import tqdm

from histozoo import durable
from histozoo.errors import ResourceError
from tests.fakes import killer, loopback
from tests.fakes.github import GitHub
from tests.fakes.hub import OWNER, READER, STRANGER, Hub
from tests.fakes.hub_faults import flip_bit
from tests.fakes.hub_store import User
from tests.fakes.nospace import file_size_limit, no_space

DATA = bytes(range(256)) * 400
NAME = "histozoo/m"
FILE = "model.safetensors"


def fetch(file: str = FILE, **options: object) -> bytes:
    return Path(hf_hub_download(NAME, file, **options)).read_bytes()


@pytest.fixture
def oid(hub: Hub) -> str:
    return hub.add(NAME, {FILE: DATA, "config.json": b"{}"})


def test_client_talks_to_the_loopback_hub(hub: Hub) -> None:
    assert hub.url == constants.ENDPOINT


def test_download_gives_the_bytes_and_a_pinned_commit_costs_no_second_request(hub: Hub, oid: str) -> None:
    assert fetch(revision=oid) == DATA
    seen = len(hub.log)
    assert fetch(revision=oid) == DATA
    assert len(hub.log) == seen


@pytest.mark.parametrize(
    "switch", [{"truncate": 1000}, {"truncate": 0.5}, {"status": 429, "headers": {"Retry-After": "1"}}]
)
def test_client_recovers_from(hub: Hub, oid: str, waits: list[float], switch: dict) -> None:
    fault = hub.fault(rf"GET .*{FILE}", times=2, **switch)
    assert fetch() == DATA
    assert fault.hits == 2
    if "status" in switch:
        assert waits == [2, 2]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client resumes after whole chunks only, of 10 MB by default."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)


@pytest.mark.usefixtures("small_chunks", "waits")
def test_ignored_range_makes_the_client_start_again(hub: Hub, oid: str) -> None:
    hub.fault(rf"GET .*{FILE}", times=1, truncate=1000)
    ignored = hub.fault(rf"GET .*{FILE}", ignore_range=True)
    assert fetch() == DATA
    assert ignored.hits == 2 and hub.requests("GET")[-1].range == "bytes=1000-"
    assert [r.status for r in hub.requests("GET")] == [200, 200]


@pytest.mark.usefixtures("small_chunks", "waits")
def test_resumed_download_asks_for_the_rest(hub: Hub, oid: str) -> None:
    hub.fault(rf"GET .*{FILE}", times=1, truncate=1000)
    assert fetch() == DATA
    assert [(r.status, r.range) for r in hub.requests("GET")] == [(200, ""), (206, "bytes=1000-")]


def test_flip_changes_one_bit_and_the_client_does_not_see_it(hub: Hub, oid: str) -> None:
    hub.fault(rf"GET .*{FILE}", flip=True, seed=3)
    got = fetch()
    assert len(got) == len(DATA)
    assert sum(bin(a ^ b).count("1") for a, b in zip(got, DATA, strict=True)) == 1


def test_flip_at_a_given_bit(hub: Hub, oid: str) -> None:
    hub.fault(rf"GET .*{FILE}", flip=17)
    assert fetch() == flip_bit(DATA, 17)


def test_zero_half(hub: Hub, oid: str) -> None:
    hub.fault(rf"GET .*{FILE}", zero_half=True)
    assert fetch() == DATA[: len(DATA) // 2] + bytes(len(DATA) // 2)


def test_short_reply_is_a_size_error(hub: Hub, oid: str) -> None:
    hub.fault(rf"GET .*{FILE}", short=10)
    with pytest.raises(OSError, match="Consistency check failed"):
        fetch()


def test_html_page_of_a_captive_portal_reaches_the_client(hub: Hub, oid: str) -> None:
    hub.fault(r"GET .*config\.json", html=True)
    with pytest.raises(OSError, match="Consistency check failed"):
        fetch("config.json")


def test_stall_holds_the_body_back(hub: Hub, oid: str) -> None:
    hub.fault(rf"GET .*{FILE}", times=1, stall=30)
    with (
        pytest.raises(TimeoutError),
        urllib.request.urlopen(f"{hub.url}/{NAME}/resolve/main/{FILE}", timeout=0.3) as reply,
    ):
        assert len(reply.read(len(DATA) // 2)) == len(DATA) // 2
        reply.read()


def test_probability_is_seeded(hub: Hub, oid: str) -> None:
    def struck(seed: int) -> list[bool]:
        hub.faults.clear()
        fault = hub.fault("GET", p=0.5, seed=seed, flip=True)
        return [fault.strikes("GET /x") for _ in range(64)]

    assert struck(1) == struck(1) != struck(2)
    assert 16 < sum(struck(1)) < 48


def test_redirect_goes_to_another_origin_without_the_token(hub: Hub, oid: str) -> None:
    hub.fault("(GET|HEAD) .*resolve", redirect=True)
    assert fetch(token=OWNER) == DATA
    asked = {r.origin: r.token for r in hub.requests("GET")}
    assert asked["cdn"] == "" and hub.requests("HEAD .*resolve")[0].token == OWNER
    assert [r.status for r in hub.requests("HEAD .*resolve")] == [302]


def test_branch_can_move_between_two_requests(hub: Hub, oid: str) -> None:
    hub.fault("HEAD .*config", times=1, then=lambda: hub.add(NAME, {FILE: b"new", "config.json": b"[]"}))
    assert fetch() == DATA
    assert fetch("config.json") == b"[]"
    assert hub.head(NAME) != oid


def test_dropped_header(hub: Hub, oid: str) -> None:
    hub.fault("HEAD .*resolve", drop=("X-Repo-Commit",))
    with pytest.raises((LocalEntryNotFoundError, OSError)):
        fetch()


@pytest.mark.parametrize(
    ("token", "gated", "private", "error", "status"),
    [
        (False, True, False, GatedRepoError, 401),
        (STRANGER, True, False, GatedRepoError, 403),
        (False, False, True, RepositoryNotFoundError, 401),
        (STRANGER, False, True, RepositoryNotFoundError, 404),
        ("hf_unknownCanary0123456789", False, False, HfHubHTTPError, 401),
    ],
)
def test_refusals(
    hub: Hub, oid: str, token: str | bool, gated: bool, private: bool, error: type[Exception], status: int
) -> None:
    hub.repos[NAME].gated, hub.repos[NAME].private = gated, private
    with pytest.raises(error) as caught:
        HfApi().hf_hub_download(NAME, FILE, token=token)
    assert caught.value.response.status_code == status  # type: ignore[attr-defined]


def test_members_read_gated_and_private_repositories(hub: Hub, oid: str) -> None:
    hub.repos[NAME].gated = hub.repos[NAME].private = True
    assert fetch(token=READER) == DATA


def test_missing_things_have_their_own_errors(hub: Hub, oid: str) -> None:
    with pytest.raises(RemoteEntryNotFoundError):
        fetch("nothing.json")
    with pytest.raises(RevisionNotFoundError):
        fetch(revision="v9")
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("histozoo/none", FILE)


def test_server_error_for_ever(hub: Hub, oid: str, waits: list[float]) -> None:
    hub.fault("HEAD", status=503)
    with pytest.raises((HfHubHTTPError, LocalEntryNotFoundError)):
        fetch()
    assert waits, "the client tries again before it gives up"


def test_down_hub_serves_nobody_and_comes_back(hub: Hub, oid: str, waits: list[float]) -> None:
    fetch()
    seen = len(hub.log)
    with hub.down():
        assert fetch() == DATA, "from the cache"
        with pytest.raises(LocalEntryNotFoundError):
            fetch("config.json")
    assert len(hub.log) == seen
    assert fetch("config.json") == b"{}"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_down_hub_refuses_although_a_forked_worker_holds_its_listener(hub: Hub) -> None:
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
    worker.start()
    try:
        with hub.down(), pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(hub.url.rpartition(":")[2])), timeout=5)
    finally:
        worker.kill()
        worker.join()


def test_publish_and_read_back(hub: Hub) -> None:
    api = HfApi(token=OWNER)
    assert api.create_repo(NAME, private=True).repo_id == NAME
    api.create_repo(NAME, exist_ok=True)
    first = api.model_info(NAME).sha
    card = b"---\nlicense: apache-2.0\n---\n# m\n"
    adds = [CommitOperationAdd(p, d) for p, d in ((FILE, DATA), ("README.md", card), ("config.json", b"{}"))]
    done = api.create_commit(NAME, adds, commit_message="m", parent_commit=first)
    api.create_tag(NAME, tag="v1", revision=done.oid)
    api.create_branch(NAME, branch="next", revision="v1")
    refs = api.list_repo_refs(NAME)
    assert {t.name: t.target_commit for t in refs.tags} == {"v1": done.oid}
    assert {b.name: b.target_commit for b in refs.branches} == {"main": done.oid, "next": done.oid}
    assert [c.title for c in api.list_repo_commits(NAME)] == ["m", "initial commit"]
    assert hub.read(NAME, FILE, rev="v1") == DATA
    (info,) = api.get_paths_info(NAME, [FILE], revision=done.oid)
    assert info.lfs.sha256 == hashlib.sha256(DATA).hexdigest() and info.lfs.size == len(DATA)
    assert {f.path for f in api.list_repo_tree(NAME)} == {FILE, "README.md", "config.json", ".gitattributes"}
    folder = Path(snapshot_download(NAME, revision="v1", token=OWNER))
    assert (folder / "README.md").read_bytes() == card
    assert not api.verify_repo_checksums(NAME, token=OWNER).mismatches


def test_upload_is_two_steps_and_a_second_one_changes_nothing(hub: Hub) -> None:
    api = HfApi(token=OWNER)
    api.create_repo(NAME)
    done = [
        api.create_commit(NAME, [CommitOperationAdd(FILE, DATA)], commit_message="m").oid for _ in range(2)
    ]
    assert done[0] == done[1]
    assert len(hub.requests("PUT /_lfs")) == 1 and len(hub.requests("POST .*/commit/")) == 1


def test_stale_parent_is_412(hub: Hub, oid: str) -> None:
    hub.add(NAME, {"other": b"1"})
    with pytest.raises(HfHubHTTPError) as caught:
        HfApi(token=OWNER).create_commit(
            NAME, [CommitOperationAdd("a", b"2")], commit_message="m", parent_commit=oid
        )
    assert caught.value.response.status_code == 412


def test_bad_front_matter_is_refused_before_anything_is_stored(hub: Hub, oid: str) -> None:
    with pytest.raises(ValueError, match="closed"):
        HfApi(token=OWNER).create_commit(
            NAME, [CommitOperationAdd("README.md", b"---\nlicense: x\n")], commit_message="m"
        )
    assert hub.head(NAME) == oid


@pytest.mark.parametrize("token", [READER, STRANGER])
def test_no_commit_without_write_permission(hub: Hub, oid: str, token: str) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        HfApi(token=token).create_commit(NAME, [CommitOperationAdd("a", b"2")], commit_message="m")
    assert caught.value.response.status_code == 403
    assert hub.head(NAME) == oid


def test_whoami_tells_role_and_organisation(hub: Hub) -> None:
    hub.users["hf_fineCanary0123456789"] = User(
        "fine", "fineGrained", {"histozoo": "write"}, {"histozoo": ("repo.write",)}
    )
    reader, fine = HfApi().whoami(READER), HfApi().whoami("hf_fineCanary0123456789")
    assert reader["auth"]["accessToken"]["role"] == "read" and reader["orgs"][0]["name"] == "histozoo"
    assert fine["auth"]["accessToken"]["fineGrained"]["scoped"][0]["permissions"] == ["repo.write"]


def test_cut_upload_never_reaches_the_branch(hub: Hub, oid: str) -> None:
    hub.fault("POST .*/commit/", cut=10)
    with pytest.raises(Exception, match=r"(?i)disconnect|reset|closed|broken"):
        HfApi(token=OWNER).create_commit(NAME, [CommitOperationAdd("a", b"2" * 1000)], commit_message="m")
    assert hub.head(NAME) == oid


def test_no_socket_leaves_the_machine() -> None:
    with pytest.raises(loopback.NetworkUsed, match=r"192\.0\.2\.1"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(loopback.NetworkUsed, match="example"):
        socket.getaddrinfo("example.org", 80)


def test_fresh_process_is_guarded_and_sees_the_hub(hub: Hub, fresh_python) -> None:
    code = (
        "import os, socket; print(os.environ['HF_ENDPOINT']); socket.create_connection(('192.0.2.1', 80), 1)"
    )
    done = fresh_python(code, ok=False)
    assert done.stdout.strip() == hub.url
    assert "NetworkUsed" in done.stderr and done.returncode == 1


def test_killer_kills_until_the_work_is_done(tmp_path: Path) -> None:
    import time

    def work() -> None:
        for step in range(20):
            if not (tmp_path / str(step)).exists():
                time.sleep(0.02)
                (tmp_path / str(step)).touch()

    killed = killer.kill_until_done(work, seed=1, kills=10, longest=0.3)
    assert 1 <= killed <= 10
    assert len(list(tmp_path.iterdir())) == 20


def test_killer_reports_a_child_that_fails_by_itself() -> None:
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        killer.kill_until_done(lambda: 1 / 0, kills=3, longest=5.0)


def test_a_child_killed_while_it_draws_a_progress_bar_leaves_the_next_ones_free() -> None:
    list(tqdm(range(3)))  # makes the lock, before the fork

    def killed_while_drawing() -> None:
        with tqdm.get_lock():
            os.kill(os.getpid(), signal.SIGKILL)

    child, note = killer.start(killed_while_drawing)
    with pytest.raises(AssertionError, match="status 9"):
        killer.wait(child, note, 10)
    assert killer.kill_until_done(lambda: list(tqdm(range(3))), kills=0, limit=10) == 0


def test_killer_finds_a_child_that_hangs() -> None:
    import time

    with pytest.raises(AssertionError, match="did not finish"):
        killer.kill_until_done(lambda: time.sleep(60), kills=1, longest=0.05, limit=0.1)


def test_killed_at_byte(tmp_path: Path) -> None:
    path = tmp_path / "f"
    assert killer.killed_at_byte(lambda: durable.write_bytes(path, b"x" * 100), 40)
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".tmp") and left.stat().st_size == 40
    assert not killer.killed_at_byte(lambda: durable.write_bytes(path, b"x" * 100), 101)
    assert path.read_bytes() == b"x" * 100


def test_no_space_counts_and_refuses(tmp_path: Path) -> None:
    with no_space() as disk:
        durable.write_bytes(tmp_path / "a", b"x" * 100)
    assert (disk.written, disk.refused) == (100, 0)
    with no_space(30) as disk, pytest.raises(ResourceError, match="disk is full"):
        durable.write_bytes(tmp_path / "b", b"x" * 100)
    assert (disk.written, disk.refused) == (30, 1)
    durable.write_bytes(tmp_path / "c", b"x" * 100)


def test_file_size_limit_is_real(tmp_path: Path) -> None:
    with file_size_limit(50):
        with (
            pytest.raises(OSError, match="File too large"),
            (tmp_path / "raw").open("wb", buffering=0) as file,
        ):
            os.write(file.fileno(), b"x" * 50)
            os.write(file.fileno(), b"x")
    (tmp_path / "after").write_bytes(b"x" * 100)


def test_torch_hub_loads_from_the_fake_github(tmp_path: Path, hub: Hub, fresh_python) -> None:
    (tmp_path / "hubconf.py").write_text("import helper\ndef answer(n=1):\n    return n * helper.ANSWER\n")
    (tmp_path / "helper.py").write_text("ANSWER = 42\n")
    load = "print(torch.hub.load('histozoo/histozoo{}', 'answer', n=2, trust_repo=True, verbose=False))\n"
    with GitHub() as github:
        github.add("histozoo/histozoo", tmp_path)
        github.add("histozoo/histozoo", tmp_path, ref="v1")
        done = fresh_python(github.redirected() + load.format("") + load.format(":v1"))
    assert [line for line in done.stdout.split() if line.isdigit()] == ["84", "84"], done.stdout
    assert "/histozoo/histozoo/zipball/main" in github.log and "/histozoo/histozoo/zipball/v1" in github.log
