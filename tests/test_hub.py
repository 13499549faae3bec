"""The Hub as transport, against a loopback server with the real client: faults, quarantine, pins, and no partial file ever."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

import histozoo
from histozoo import hub as ours
from histozoo import hub_cache, integrity, registry, sources
from histozoo.errors import HistozooError, IntegrityError, ResourceError, UsageError
from tests.fakes.hub import OWNER, READER, STRANGER, Hub
from tests.fakes.hub_faults import flip_bit
from tests.fakes.zoo import as_zoo, make_bundle, sha256

REPO, FILE = "histozoo/tiny.model_x", "model.safetensors"
DATA = bytes(range(256)) * 4096  # 1 MiB; fetch looks at size and sha256 alone
MATCH = r"GET .*model\.safetensors"


@pytest.fixture(autouse=True)
def empty_caches(hub: Hub) -> None:
    """Each test starts with an empty Hub and empty caches."""


@pytest.fixture
def commit(hub: Hub) -> str:
    return hub.add(REPO, {FILE: DATA})


def fetch(commit: str, data: bytes = DATA, **options: Any) -> Path:
    return ours.fetch(REPO, FILE, revision=commit, sha256=sha256(data), size=len(data), **options)


def cache_files() -> list[str]:
    """Every file of the client's cache that is not a lock, a reference or the marker of the folder."""
    from huggingface_hub import constants

    root = Path(constants.HF_HUB_CACHE)
    kinds = {p.parent.name for p in root.rglob("*") if p.is_file()}
    assert "incomplete" not in kinds
    return [p.name for p in root.rglob("*") if "snapshots" in p.parts and p.exists() and not p.is_dir()]


def incomplete() -> list[Path]:
    from huggingface_hub import constants

    return list(Path(constants.HF_HUB_CACHE).rglob("*.incomplete"))


def test_a_pinned_file_is_fetched_once_and_costs_no_request_afterwards(hub: Hub, commit: str) -> None:
    path = fetch(commit)
    assert path.read_bytes() == DATA and path.parent.name == commit
    hub.log.clear()
    assert fetch(commit) == path
    assert hub.requests(".*") == []
    with hub.down():
        assert fetch(commit).read_bytes() == DATA


def test_a_cache_folder_of_ones_own(hub: Hub, commit: str, tmp_path: Path) -> None:
    assert tmp_path in fetch(commit, cache_dir=tmp_path).parents
    assert tmp_path not in fetch(commit).parents


# -- B10, B11, B12: bytes


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_b10_truncated_replies_end_in_the_right_file(
    hub: Hub, commit: str, waits: list[float], share: float
) -> None:
    fault = hub.fault(MATCH, times=2, truncate=share)
    assert fetch(commit).read_bytes() == DATA and fault.hits >= 1


def test_b10_a_server_that_ignores_range_ends_in_the_right_file(
    hub: Hub, commit: str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 65_536)
    hub.fault(MATCH, times=1, truncate=0.5)
    hub.fault(MATCH, times=5, ignore_range=True)
    assert fetch(commit).read_bytes() == DATA


def test_b10_a_transfer_that_always_breaks_off_leaves_no_partial_file(
    hub: Hub, commit: str, waits: list[float]
) -> None:
    hub.fault(MATCH, truncate=0.4)
    with pytest.raises(ResourceError) as caught:
        fetch(commit)
    assert caught.value.code == "HZ-B15" and "broke off" in caught.value.what
    assert f"{REPO}@{commit}" in caught.value.where and "no partial file" in caught.value.kept
    assert cache_files() == [] and incomplete() == []


def test_b10_a_reply_that_declares_too_few_bytes_does_not_pass(
    hub: Hub, commit: str, waits: list[float]
) -> None:
    hub.fault(MATCH, short=10)
    with pytest.raises(HistozooError) as caught:
        fetch(commit)
    assert caught.value.code in ("HZ-B15", "HZ-B11") and cache_files() == []


@pytest.mark.parametrize("fault", [{"flip": True}, {"zero_half": True}], ids=str)
def test_b11_bytes_changed_in_transit_are_quarantined_and_fetched_again(
    hub: Hub, commit: str, fault: dict[str, Any]
) -> None:
    hub.fault(MATCH, times=1, **fault)
    assert fetch(commit).read_bytes() == DATA
    assert len(hub.requests(MATCH)) == 2
    (bad,) = (integrity.cache_folder() / "quarantine").iterdir()
    assert bad.stem == sha256(bad.read_bytes()) != sha256(DATA)


def test_b11_bytes_changed_twice_are_refused_and_served_to_nobody(hub: Hub, commit: str) -> None:
    hub.fault(MATCH, flip=True)
    with pytest.raises(IntegrityError) as caught:
        fetch(commit)
    error = caught.value
    assert error.code == "HZ-B11" and f"{REPO}@{commit}, {FILE}" == error.where
    assert sha256(DATA) in error.expected and "corruption, not truncation" in error.got
    assert "quarantine" in error.kept and "fetched again, and was wrong again" in error.kept
    assert len(hub.requests(MATCH)) == 2 and cache_files() == []


def test_b11_a_blob_changed_on_disk_is_found_at_the_next_load(hub: Hub, commit: str) -> None:
    path = fetch(commit)
    blob, st = path.resolve(), path.stat()
    blob.write_bytes(flip_bit(DATA, 12345))
    os.utime(blob, ns=(st.st_atime_ns, st.st_mtime_ns))
    hub.log.clear()
    assert fetch(commit).read_bytes() == DATA
    assert len(hub.requests(MATCH)) == 1
    (bad,) = (integrity.cache_folder() / "quarantine").iterdir()
    assert bad.read_bytes() == flip_bit(DATA, 12345)


def test_b11_a_blob_cut_short_on_disk_is_found(hub: Hub, commit: str) -> None:
    fetch(commit).resolve().write_bytes(DATA[:1000])
    assert fetch(commit).read_bytes() == DATA


def test_b11_a_bad_blob_without_network_says_both(hub: Hub, commit: str, waits: list[float]) -> None:
    fetch(commit).resolve().write_bytes(flip_bit(DATA, 1))
    with hub.down(), pytest.raises(IntegrityError) as caught:
        fetch(commit)
    assert (
        caught.value.code == "HZ-B11"
        and "fetching it again failed: the Hub cannot be reached" in caught.value.kept
    )
    assert cache_files() == []


def _fetch_in_child(queue: Any, commit: str, lock_works: bool) -> None:
    import fcntl
    import warnings

    warnings.simplefilter("ignore")
    if not lock_works:
        fcntl.flock = lambda *_: None  # what some network file systems do
    try:
        facts = registry.Published(FILE, sha256(DATA), len(DATA))
        data = sources.read_verified(lambda: (fetch(commit), facts), lambda path, _: path.read_bytes())
        queue.put("right" if data == DATA else "WRONG")
    except HistozooError as error:
        queue.put(error.code)
    except BaseException as error:
        queue.put(repr(error))


@pytest.mark.parametrize("lock_works", [True, False])
def test_b12_eight_processes_one_cold_cache_and_faults(hub: Hub, commit: str, lock_works: bool) -> None:
    import huggingface_hub

    huggingface_hub.hf_hub_download  # noqa: B018  the forks inherit it
    hub.fault(MATCH, p=0.3, seed=1, truncate=0.5)
    hub.fault(MATCH, p=0.1, seed=2, flip=True)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_fetch_in_child, args=(queue, commit, lock_works)) for _ in range(8)]
    for child in children:
        child.start()
    answers = [queue.get(timeout=120) for _ in children]
    for child in children:
        child.join(30)
    assert set(answers) <= {"right", "HZ-B11", "HZ-B12", "HZ-B15"}, answers
    assert answers.count("right") >= 6
    if lock_works:
        assert len([r for r in hub.requests(MATCH) if r.status == 200]) <= 4
    assert incomplete() == []


def test_b12_bytes_that_were_put_there_after_the_file_was_verified_are_not_the_end(tmp_path: Path) -> None:
    path, facts = tmp_path / FILE, registry.Published(FILE, sha256(DATA), len(DATA))
    located: list[int] = []

    def locate() -> tuple[Path, registry.Published]:
        path.write_bytes(DATA)
        integrity.verify(path, facts.sha256, facts.bytes)
        located.append(1)
        if len(located) <= bad:  # another process, where locks do nothing
            path.write_bytes(flip_bit(DATA, 7))
        return path, facts

    bad = 1
    assert sources.read_verified(locate, lambda p, _: p.read_bytes()) == DATA and len(located) == 2
    bad, located[:] = 99, []
    with pytest.raises(IntegrityError, match="HZ-B12"):
        sources.read_verified(locate, lambda p, _: p.read_bytes())
    assert len(located) == sources.TRIES


# -- B13: orphans


def test_b13_what_killed_downloads_left_is_removed_and_its_size_said(hub: Hub, commit: str) -> None:
    blobs = fetch(commit).resolve().parent
    old, young, held = (blobs / f"{'a' * 64}.{i:08x}.incomplete" for i in range(3))
    for path in (old, young, held):
        path.write_bytes(bytes(1000))
    for path in (old, held):
        os.utime(path, (time.time() - 3600, time.time() - 3600))
    with (
        held.open("rb"),
        pytest.warns(
            UserWarning, match=rf"HZ-B13 removed 1,000 bytes in 1 files that killed downloads of {REPO}"
        ),
    ):
        assert hub_cache.remove_orphans(REPO) == 1000
    assert not old.exists() and young.exists() and held.exists()


def test_b13_kills_in_the_middle_leave_nothing_after_the_next_fetch(
    hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    huggingface_hub.hf_hub_download  # noqa: B018  the forks inherit it
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 65_536)
    hub.fault(MATCH, times=3, stall=60)  # half of the file, then silence
    context = multiprocessing.get_context("fork")
    for kill in range(1, 4):
        child = context.Process(target=fetch, args=(commit,))
        child.start()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and (
            len(incomplete()) < kill or not all(p.stat().st_size for p in incomplete())
        ):
            time.sleep(0.02)
        child.kill()
        child.join()
    assert len(incomplete()) == 3 and cache_files() == []
    monkeypatch.setattr(hub_cache, "QUIET_SECONDS", 0.0)
    with pytest.warns(UserWarning, match=r"HZ-B13 removed [\d,]{5,} bytes in 3 files"):
        assert fetch(commit).read_bytes() == DATA
    assert incomplete() == []


# -- B14, B15: what the Hub answers


STATUSES = {
    403: ("restricted", "ask for access"),
    404: ("does not exist", "check the name"),
    429: ("limits the rate", "wait"),
    500: ("a problem of its own", "later"),
    503: ("a problem of its own", "later"),
    418: ("refused the request", "later"),
}


@pytest.mark.parametrize("status", STATUSES)
def test_b14_the_status_is_said_and_nothing_is_left(
    hub: Hub, commit: str, waits: list[float], status: int
) -> None:
    hub.fault(r"(GET|HEAD) .*model\.safetensors", status=status)
    with pytest.raises(ResourceError) as caught:
        fetch(commit)
    what, next_step = STATUSES[status]
    assert caught.value.code == "HZ-B14" and caught.value.got == f"HTTP status {status}"
    assert what in caught.value.what and next_step in caught.value.next_step
    assert "check your connection" not in str(caught.value) and caught.value.__cause__ is not None
    assert cache_files() == [] and incomplete() == []


@pytest.mark.parametrize("token, status", [(None, 401), (STRANGER, 403)])
def test_b14_a_gated_repository_is_said(
    hub: Hub, commit: str, token: str | None, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[REPO].gated = True
    monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(ResourceError) as caught:
        fetch(commit)
    assert caught.value.code == "HZ-B14" and caught.value.got == f"HTTP status {status}"
    assert "ask for access" in caught.value.next_step
    monkeypatch.setenv("HF_TOKEN", OWNER)
    assert fetch(commit).read_bytes() == DATA
    monkeypatch.delenv("HF_TOKEN")
    assert fetch(commit).read_bytes() == DATA, "what is cached is served without a token"


def test_b14_a_repository_a_commit_and_a_file_that_do_not_exist(hub: Hub, commit: str) -> None:
    for repo, file, revision in (
        ("histozoo/nothing.model_x", FILE, commit),
        (REPO, FILE, "0" * 40),
        (REPO, "other.safetensors", commit),
    ):
        with pytest.raises(ResourceError, match=r"(?s)HZ-B14.*HTTP status 40[14]"):
            ours.fetch(repo, file, revision=revision, sha256=sha256(DATA), size=len(DATA))


def test_b14_a_429_with_retry_after_is_waited_for(hub: Hub, commit: str, waits: list[float]) -> None:
    hub.fault(MATCH, times=1, status=429, headers={"Retry-After": "7"})
    assert fetch(commit).read_bytes() == DATA
    assert any(7 <= seconds <= 10 for seconds in waits)


def test_b14_a_login_page_is_said_to_be_one(hub: Hub, commit: str, waits: list[float]) -> None:
    hub.fault(r"(GET|HEAD) .*model\.safetensors", html=True)
    with pytest.raises(ResourceError) as caught:
        fetch(commit)
    assert caught.value.code == "HZ-B14" and "a login page" in caught.value.what and cache_files() == []


def test_b14_no_network_is_said(hub: Hub, commit: str, waits: list[float]) -> None:
    with hub.down(), pytest.raises(ResourceError) as caught:
        fetch(commit)
    assert caught.value.code == "HZ-B14" and caught.value.what == "the Hub cannot be reached"
    assert "HISTOZOO_WEIGHTS_DIR" in caught.value.next_step


def test_b15_a_stall_ends_in_an_error(
    hub: Hub, commit: str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.3)
    hub.fault(MATCH, stall=5)
    start = time.monotonic()
    with pytest.raises(ResourceError) as caught:
        fetch(commit)
    assert caught.value.code == "HZ-B15" and "stopped answering" in caught.value.what
    assert time.monotonic() - start < 30 and cache_files() == [] and incomplete() == []


OFFLINE = """
import sys
from histozoo import hub
from histozoo.errors import ResourceError
repo, commit, sha, size = sys.argv[1:]
facts = dict(sha256=sha, size=int(size))
print(hub.fetch(repo, "model.safetensors", revision=commit, **facts).parent.name)
import warnings; warnings.simplefilter("ignore")
print(hub.resolve(repo, "model.safetensors", None))
try: hub.fetch(repo, "model.safetensors", revision="0" * 40, **facts)
except ResourceError as e: print(e.code, e.what)
"""


def test_hf_hub_offline_serves_the_cache_and_says_what_is_not_there(
    hub: Hub, commit: str, fresh_python: Any
) -> None:
    fetch(commit)
    with pytest.warns(UserWarning, match="HZ-B17"):
        assert ours.resolve(REPO, FILE, None) == commit
    from huggingface_hub import hf_hub_download

    hf_hub_download(REPO, FILE)  # writes down where main is
    hub.log.clear()
    args = (REPO, commit, sha256(DATA), str(len(DATA)))
    lines = fresh_python(OFFLINE, *args, env={"HF_HUB_OFFLINE": "1"}).stdout.splitlines()
    assert lines == [commit, commit, "HZ-B14 HF_HUB_OFFLINE is set and the file is not in the cache"]
    assert hub.requests(".*") == []


# -- B16, B17, B18: commits, names, secrets


def test_b16_a_branch_that_moves_between_two_files_mixes_nothing(hub: Hub) -> None:
    other = "golden.safetensors"
    first = hub.add(REPO, {FILE: DATA, other: b"old"})
    hub.fault(
        MATCH, times=1, status=200, body=DATA, then=lambda: hub.add(REPO, {FILE: DATA[::-1], other: b"new"})
    )
    with pytest.warns(UserWarning, match=rf"HZ-B17 {REPO} is not pinned: main is commit {first} now"):
        commit = ours.resolve(REPO, FILE, None)
    hub.add(REPO, {FILE: DATA[::-1], other: b"new"})
    assert fetch(commit).read_bytes() == DATA
    path = ours.fetch(REPO, other, revision=commit, sha256=sha256(b"old"), size=3)
    assert path.read_bytes() == b"old" and path.parent.name == first


def test_b17_a_tag_that_moved_to_other_weights_is_refused(hub: Hub, commit: str) -> None:
    hub.tag(REPO, "v1", oid=commit)
    moved = hub.add(REPO, {FILE: DATA[::-1]})
    hub.tag(REPO, "v1", oid=moved)
    with pytest.warns(UserWarning, match=rf"v1 is commit {moved} now"):
        now = ours.resolve(REPO, FILE, "v1")
    with pytest.raises(IntegrityError, match="HZ-B11"):
        fetch(now)


def test_b17_a_server_that_answers_with_another_commit_is_refused(hub: Hub, commit: str) -> None:
    later = hub.add(REPO, {FILE: DATA})
    hub.fault(
        r"(GET|HEAD) .*model\.safetensors",
        status=200,
        body=DATA,
        headers={"X-Repo-Commit": later, "ETag": f'"{sha256(DATA)}"'},
    )
    with pytest.raises(IntegrityError) as caught:
        fetch(commit)
    assert caught.value.code == "HZ-B17" and commit in caught.value.expected and later in caught.value.got


def test_b17_strict_refuses_what_is_not_pinned(
    hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HISTOZOO_STRICT", "1")
    hub.log.clear()
    for revision in (None, "main", commit[:12]):
        with pytest.raises(IntegrityError, match=r"(?s)HZ-B17.*HISTOZOO_STRICT=1"):
            ours.resolve(REPO, FILE, revision)
    assert ours.resolve(REPO, FILE, commit) == commit
    assert hub.requests(".*") == []


@pytest.mark.parametrize("word", ["true", "yes", "2", " 1"])
def test_b17_another_word_than_0_or_1_does_not_mean_that_strictness_is_off(
    hub: Hub, commit: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HISTOZOO_STRICT", word)
    hub.log.clear()
    with pytest.raises(UsageError, match=rf"(?s)HZ-U12 HISTOZOO_STRICT.*0 or 1.*{word}"):
        ours.resolve(REPO, FILE, "main")
    assert hub.requests(".*") == []


BAD = {
    "repo": ["../x/y", "a/b/c", "histozoo", "a/../b", "https://evil.example/a/b", "a/b\n", "a/b?x=1", ""],
    "filename": [
        "../../.ssh/key.safetensors",
        "/etc/x.safetensors",
        "a/b.safetensors",
        "model.bin",
        "x.safetensors\0",
    ],
    "revision": ["main", "../" * 10, "A" * 40, "0" * 39, "0" * 40 + "\n"],
}


@pytest.mark.parametrize("field, value", [(f, v) for f, values in BAD.items() for v in values], ids=ascii)
def test_b18_what_is_not_of_the_form_is_refused_before_disk_and_network(
    hub: Hub, field: str, value: str
) -> None:
    given = {"repo": REPO, "filename": FILE, "revision": "0" * 40, field: value}
    with pytest.raises(UsageError) as caught:
        ours.fetch(given.pop("repo"), given.pop("filename"), **given, sha256=sha256(DATA), size=1)
    assert caught.value.code == "HZ-B18" and caught.value.got.isascii() and "\n" not in caught.value.got
    assert hub.requests(".*") == [] and not integrity.cache_folder().exists()


def test_b18_a_commit_with_path_parts_in_a_reply_writes_nothing_outside(hub: Hub, commit: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ours, "_asking", lambda repo, revision, call: "../../../escape")
        with pytest.raises(UsageError, match="HZ-B18"):
            ours.resolve(REPO, FILE, "main")


def test_b18_no_token_is_printed_anywhere(
    hub: Hub,
    commit: str,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("HF_TOKEN", READER)
    target = r"(GET|HEAD) .*model\.safetensors"
    hub.fault(target, status=403, headers={"X-Error-Message": f"token {READER} is bad"})
    with pytest.raises(ResourceError) as caught:
        fetch(commit)
    assert READER not in str(caught.value)
    hub.faults.clear()
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    hub.fault(target, times=1, status=403)
    with pytest.raises(ResourceError):
        fetch(commit)
    hub.fault(MATCH, times=1, redirect=True)
    assert fetch(commit).read_bytes() == DATA
    sent = hub.requests(MATCH)
    assert any(r.token for r in hub.requests(target)), "the token is used"
    assert [r.token for r in sent if r.origin == "cdn"] in ([None], [""]), "and not sent to another host"
    assert READER not in caplog.text and len(caplog.text) > 500


# -- through histozoo.load


@pytest.fixture
def pushed(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """A tiny bundle on the Hub, its entry pinned in the zoo; gives the bundle and the commit."""
    pytest.importorskip("timm")
    bundle = make_bundle(tmp_path / "dist")
    commit = hub.add_folder(f"histozoo/{bundle.name}", bundle)
    as_zoo(bundle, tmp_path, revision=commit)
    monkeypatch.setattr(registry, "ZOO", tmp_path)
    monkeypatch.delenv("HISTOZOO_ZOO", raising=False)
    monkeypatch.delenv("HISTOZOO_WEIGHTS_DIR", raising=False)
    return bundle, commit


def test_load_fetches_checks_and_then_needs_no_network(hub: Hub, pushed: tuple[Path, str]) -> None:
    import torch
    from safetensors.torch import load_file

    bundle, commit = pushed
    golden = load_file(bundle / "golden.safetensors")
    hub.log.clear()
    model = histozoo.load(bundle.name)
    with torch.no_grad():
        assert torch.equal(model(golden["pixels_BCHW"]), golden["features_BD"])
    assert {r.path for r in hub.requests("GET")} == {
        f"/histozoo/{bundle.name}/resolve/{commit}/model.safetensors"
    }
    hub.log.clear()
    histozoo.load(bundle.name, num_classes=2)
    assert hub.requests(".*") == []
    entry = registry.entry(bundle.name)
    assert sources.locate(entry, entry.golden)[0].read_bytes() == (bundle / "golden.safetensors").read_bytes()


@pytest.mark.parametrize(
    "fault",
    [{"flip": True}, {"truncate": 0.5}, {"status": 503}, {"html": True}, {"zero_half": True}],
    ids=str,
)
def test_no_faulty_reply_ever_loads(
    hub: Hub, pushed: tuple[Path, str], waits: list[float], fault: dict[str, Any]
) -> None:
    hub.fault(r"(GET|HEAD) .*model\.safetensors" if "status" in fault or "html" in fault else MATCH, **fault)
    with pytest.raises((IntegrityError, ResourceError), match=r"HZ-B1[145]"):
        histozoo.load(pushed[0].name)
    hub.faults.clear()
    assert histozoo.load(pushed[0].name).num_features == 96


def test_b17_a_repository_made_anew_with_other_weights_is_refused(
    hub: Hub, pushed: tuple[Path, str], tmp_path: Path
) -> None:
    bundle, commit = pushed
    shutil.rmtree(bundle)
    other = make_bundle(tmp_path / "dist", seed=9)
    hub.reset()
    anew = hub.add_folder(f"histozoo/{bundle.name}", other)
    assert anew != commit
    with pytest.raises(ResourceError, match=rf"(?s)HZ-B14.*{commit}.*HTTP status 404"):
        histozoo.load(bundle.name)
    with pytest.raises(IntegrityError, match=r"HZ-B11"):
        histozoo.load(bundle.name, revision=anew)


def test_an_unpinned_entry_warns_and_loads_only_the_published_bytes(
    hub: Hub, pushed: tuple[Path, str], tmp_path: Path
) -> None:
    bundle, commit = pushed
    path = as_zoo(bundle, tmp_path, revision=None)
    assert json.loads(path.read_text())["histozoo"]["weights"]["revision"] is None
    with pytest.warns(UserWarning, match=rf"HZ-B17 .* main is commit {commit} now"):
        assert histozoo.load(bundle.name).num_features == 96
