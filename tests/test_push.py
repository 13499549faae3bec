"""bundle -> Hub: what is refused before anything leaves, what readers see whenever it stops, and that every door opens it afterwards."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from histozoo import card, durable, gates, publish, registry
from histozoo.errors import HistozooError, IntegrityError, ResourceError, UsageError
from histozoo.push import TAG, push
from tests.fakes import killer
from tests.fakes.hub import OWNER, READER, STRANGER, TOKENS, Hub
from tests.fakes.hub_faults import flip_bit
from tests.fakes.hub_store import User
from tests.fakes.nospace import no_space
from tests.fakes.run import make_run

NAME = "test_resnet.multitask_drawn2"
REPO = f"histozoo/{NAME}"
SENT = {"README.md", "config.json", *(f"{n}.safetensors" for n in ("golden", "heads", "model", "optimizer"))}


class House:
    """A dist/, zoo/ and model_cards/ with one published bundle."""

    def __init__(self, root: Path) -> None:
        self.root, self.zoo, self.cards = root, root / "zoo", root / "model_cards"
        self.bundle = root / "dist" / NAME
        self.said: list[str] = []

    def push(self, **options: object) -> str:
        options = {"token": OWNER, "say": self.said.append, **options}
        return push(self.bundle, zoo=self.zoo, cards=self.cards, **options)  # type: ignore[arg-type]

    def edit(self, change: Callable[[dict], None]) -> None:
        """Changes the entry as a publisher would have written it: config.json, card and zoo agree."""
        raw = json.loads((self.bundle / "config.json").read_bytes())
        change(raw)
        for path in (self.bundle / "config.json", self.zoo / f"{NAME}.json"):
            durable.write_json(path, raw)
        rendered = card.render(registry.read_entry(self.bundle / "config.json"))
        for path in (self.bundle / "README.md", self.cards / f"{NAME}.md"):
            durable.write_text(path, rendered)

    def written(self) -> dict[str, bytes]:
        return {
            str(p.relative_to(self.root)): p.read_bytes() for p in sorted(self.root.rglob("*")) if p.is_file()
        }

    def revision(self) -> str | None:
        entry = registry.read_entry(self.zoo / f"{NAME}.json")
        assert (self.bundle / "config.json").read_bytes() == entry.path.read_bytes()
        return entry.weights.revision


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("house")
    run = make_run(tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gates, "reloads", lambda bundle: [])  # test_publish.py goes through it
        publish.publish(run, out=root / "dist", zoo=root / "zoo", cards=root / "model_cards", embed=False)
    return root


@pytest.fixture
def house(template: Path, tmp_path: Path) -> House:
    return House(Path(shutil.copytree(template, tmp_path / "house")))


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the gate that starts a fresh process; one test below and those of publish go through it."""
    monkeypatch.setattr(gates, "reloads", lambda bundle: [])


def seen(hub: Hub) -> set[str]:
    """What a reader of the branch sees, apart from the Hub's own file."""
    repo = hub.repos.get(REPO)
    return set(repo.commits[repo.branches["main"]].tree) - {".gitattributes"} if repo else set()


def other_limits(raw: dict) -> None:
    raw["histozoo"]["limits"] = "Other limits than before."


# -- the straight way --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("trusting")
def test_g50_one_commit_read_back_then_tag(hub: Hub, house: House) -> None:
    before = house.written()
    revision = house.push()
    assert re.fullmatch("[0-9a-f]{40}", revision) and hub.head(REPO) == hub.repos[REPO].tags[TAG] == revision
    assert seen(hub) == SENT
    steps = [
        str(r) for r in hub.log if r.method != "HEAD" and re.search(r"/commit/|/tag/|GET .*/resolve/", str(r))
    ]
    assert (
        steps[0] == f"POST /api/models/{REPO}/commit/main"
        and steps[-1] == f"POST /api/models/{REPO}/tag/{revision}"
    )
    assert steps[1:-1] == [f"GET /{REPO}/resolve/{revision}/{name}" for name in sorted(SENT)]
    sent = json.loads(hub.requests("POST .*/commit/")[0].body.split(b"\n")[0])["value"]
    assert sent["parentCommit"] == next(iter(hub.repos[REPO].commits))
    changed = {name for name, data in house.written().items() if before[name] != data}
    assert changed == {f"dist/{NAME}/config.json", f"zoo/{NAME}.json", f"model_cards/{NAME}.md"}
    assert house.revision() == revision and revision in (house.cards / f"{NAME}.md").read_text()
    assert house.said[-1] == f"published as {REPO}@{revision}"


@pytest.mark.usefixtures("trusting")
def test_the_hub_has_the_bundle_byte_by_byte_and_a_null_revision(hub: Hub, house: House) -> None:
    before = house.written()
    house.push()
    for name in SENT:
        assert hub.read(REPO, name) == before[f"dist/{NAME}/{name}"]
    assert json.loads(hub.read(REPO, "config.json"))["histozoo"]["weights"]["revision"] is None


@pytest.mark.usefixtures("trusting")
def test_dry_run_lists_what_would_be_sent_and_asks_the_hub_nothing(hub: Hub, house: House) -> None:
    before = house.written()
    assert house.push(dry_run=True, token=None) == ""
    assert hub.log == [] and house.written() == before
    listed = "\n".join(house.said)
    sha256 = registry.read_entry(house.bundle / "config.json").weights.sha256
    assert REPO in listed and sha256 in listed and all(name in listed for name in SENT)


@pytest.mark.usefixtures("trusting")
def test_private_repository(hub: Hub, house: House) -> None:
    house.push(private=True)
    assert hub.repos[REPO].private


@pytest.mark.usefixtures("trusting")
def test_private_is_refused_where_the_repository_is_public(hub: Hub, house: House) -> None:
    hub.create(REPO)
    with pytest.raises(UsageError, match="HZ-U25 a private repository was asked for"):
        house.push(private=True)
    assert seen(hub) == set() and house.revision() is None


@pytest.mark.usefixtures("trusting")
def test_another_repository_is_named_in_what_is_sent_and_recorded(hub: Hub, house: House) -> None:
    revision = house.push(repo="owner/mine", token=OWNER)
    sent = json.loads(hub.read("owner/mine", "config.json"))["histozoo"]["weights"]
    assert sent["repo"] == "owner/mine" and b"hf-hub:owner/mine" in hub.read("owner/mine", "README.md")
    assert house.revision() == revision and REPO not in hub.repos


@pytest.mark.usefixtures("trusting")
def test_second_repository_leaves_the_record_at_the_first(hub: Hub, house: House) -> None:
    first = house.push()
    assert house.push(repo="owner/mine") == hub.head("owner/mine")
    assert house.revision() == first


def test_not_a_bundle(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"(?s)HZ-U24 this is not a bundle.*missing: model\.safetensors, config\.json"
    ):
        push(tmp_path)
    assert hub.log == []


# -- G49, G52, G53: nothing leaves the machine -------------------------------------------------------------------------


def _flip(house: House) -> None:
    path = house.bundle / "model.safetensors"
    path.write_bytes(flip_bit(path.read_bytes(), 8 * path.stat().st_size - 3))


def _stray(house: House) -> None:
    (house.bundle / "pytorch_model.bin").write_bytes(b"x")


def _card(house: House) -> None:
    path = house.bundle / "README.md"
    path.write_text(path.read_text() + "\nBest model ever.\n")


def _nan(house: House) -> None:
    path = house.bundle / "heads.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values())).flatten()[0] = float("nan")
    save_file(tensors, path, {"format": "pt"})


def _missing_tensor(house: House) -> None:
    path = house.bundle / "model.safetensors"
    save_file(dict(list(load_file(path).items())[1:]), path)


def _zoo(house: House) -> None:
    path = house.zoo / f"{NAME}.json"
    raw = json.loads(path.read_bytes())
    other_limits(raw)
    durable.write_json(path, raw)


def _secret(house: House) -> None:
    house.edit(
        lambda raw: raw["histozoo"].update(
            notes="Trained from /home/anna/tiles with hf_abcdefghijklmnopqrstuv."
        )
    )


def _patient(house: House) -> None:
    house.edit(lambda raw: raw["histozoo"].update(notes="Without slide TCGA-AB-1234-01Z."))


def _metadata(house: House) -> None:
    path = house.bundle / "optimizer.safetensors"
    save_file(load_file(path), path, {"from": "/mnt/nas/run"})


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_flip, r"HZ-A02 model\.safetensors: expected sha256 [0-9a-f]{64} \([\d,]+ bytes\), got sha256"),
        (_stray, r"HZ-G49 pytorch_model\.bin is not part of a bundle"),
        (_card, r"HZ-A09 README\.md is not what config\.json renders to"),
        (_nan, r"HZ-A06 heads\.safetensors: \S+ has values that are not finite"),
        (_missing_tensor, r"HZ-A05 .*keys differ"),
        (_zoo, r"HZ-G51 .* in the zoo differs"),
        (_secret, r"HZ-G52 config\.json:\d+: access token: hf_\*\*\* \(25 characters\)"),
        (_secret, r"HZ-G52 README\.md:\d+: absolute path: /ho\*\*\*"),
        (_patient, r"HZ-G52 config\.json:\d+: patient-like number: TCG\*\*\*"),
        (_metadata, r"HZ-G52 optimizer\.safetensors:1: absolute path: /mn\*\*\*"),
    ],
)
def test_g49_g52_failed_gate_keeps_everything_here(
    hub: Hub, house: House, spoil: Callable[[House], None], says: str
) -> None:
    spoil(house)
    before = house.written()
    with pytest.raises(IntegrityError, match=rf"(?s)HZ-G49 .*{says}") as caught:
        house.push()
    assert hub.log == [], "nothing was asked, nothing was sent"
    assert house.written() == before and caught.value.exit_code == 3
    assert "abcdefghijklmnopqrstuv" not in str(caught.value) and "AB-1234" not in str(caught.value)


def test_g49_golden_features_are_recomputed_in_a_fresh_process(hub: Hub, house: House) -> None:
    from histozoo import artifact

    path = house.bundle / "golden.safetensors"
    tensors = load_file(path)
    tensors["features_BD"][0, 0] += 1e-3
    sha256 = artifact.save_canonical(tensors, path, {"format": "pt"})
    house.edit(lambda raw: raw["histozoo"]["golden"].update(sha256=sha256, bytes=path.stat().st_size))
    with pytest.raises(IntegrityError, match=r"(?s)HZ-G49 .*golden: HZ-A08 .*model stage differs"):
        house.push()
    assert hub.log == []


# -- G54: the token ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize(
    ("token", "says"),
    [
        (None, "no access token was found"),
        ("hf_nobodyCanary0123456789", r"the Hub does not know this access token \(HTTP 401\)"),
        (READER, "the access token of reader may only read"),
        (STRANGER, "stranger may not write to histozoo"),
        ("hf_fineCanary0123456789", "the access token of fine has no repo.write for histozoo"),
        ("hf_memberCanary0123456789", "member may not write to histozoo"),
    ],
)
def test_g54_token_problem_is_found_before_the_upload(
    hub: Hub, house: House, token: str | None, says: str
) -> None:
    hub.users["hf_fineCanary0123456789"] = User(
        "fine", "fineGrained", {"histozoo": "write"}, {"fine": ("repo.write",)}
    )
    hub.users["hf_memberCanary0123456789"] = User("member", "write", {"histozoo": "read"})
    with pytest.raises(ResourceError, match=f"HZ-G54 {says}") as caught:
        house.push(token=token)
    assert {r.path for r in hub.log} <= {"/api/whoami-v2"}
    assert "nothing was sent" in str(caught.value) and caught.value.exit_code == 5
    assert house.revision() is None


@pytest.mark.usefixtures("trusting")
def test_g54_fine_grained_token_of_the_organisation_is_enough(hub: Hub, house: House) -> None:
    hub.users["hf_fineCanary0123456789"] = User(
        "fine", "fineGrained", {"histozoo": "write"}, {"histozoo": ("repo.write",)}
    )
    assert house.push(token="hf_fineCanary0123456789") == hub.head(REPO)


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("place", ["variable", "file"])
def test_token_from_the_usual_places(
    hub: Hub, house: House, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if place == "variable":
        monkeypatch.setenv("HF_TOKEN", OWNER)
    else:
        from huggingface_hub import constants

        (tmp_path / "token").write_text(f"{OWNER}\n")
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert house.push(token=None) == hub.head(REPO)


@pytest.mark.usefixtures("trusting")
def test_g54_other_bytes_served_than_sent(hub: Hub, house: House) -> None:
    fault = hub.fault(r"GET .*resolve.*model\.safetensors", flip=True, times=1)
    with pytest.raises(
        IntegrityError, match=r"(?s)HZ-G54 the Hub serves other bytes.*model\.safetensors"
    ) as caught:
        house.push()
    assert fault.hits == 1 and "not tagged and no revision was recorded" in str(caught.value)
    assert hub.repos[REPO].tags == {} and house.revision() is None
    assert house.push() == hub.repos[REPO].tags[TAG], "the second time it is read back whole"
    assert len(hub.requests("POST .*/commit/")) == 1


# -- G50: interrupted --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("trusting")
def test_g50_cut_at_any_byte_of_any_request_shows_nothing_or_all(
    hub: Hub, house: House, waits: list[float]
) -> None:
    before = house.written()
    size = (house.bundle / "model.safetensors").stat().st_size
    cuts = [("PUT /_lfs", n) for n in (0, 1, size // 3, size - 1)]
    cuts += [("POST .*/commit/", n) for n in (0, 1, 100, 1000)] + [
        ("POST .*(preupload|batch|create)", n) for n in (0, 9)
    ]
    for match, n_bytes in cuts:
        fault = hub.fault(match, cut=n_bytes)
        with pytest.raises(ResourceError, match="HZ-G50") as caught:
            house.push()
        assert fault.hits and seen(hub) == set() and house.written() == before
        assert "push again" in str(caught.value) and "Hub" in str(caught.value)
        hub.faults.clear()
    assert house.push() == hub.head(REPO) and seen(hub) == SENT


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize(
    ("match", "status"),
    [("POST .*/commit/", 503), ("POST .*/tag/", 500), ("POST .*/create", 429), ("PUT", 403)],
)
def test_g50_refused_request_is_told_with_its_status(
    hub: Hub, house: House, waits: list[float], match: str, status: int
) -> None:
    hub.fault(match, status=status)
    with pytest.raises(ResourceError, match=rf"HZ-G5[04] the Hub answered HTTP {status}"):
        house.push()
    assert seen(hub) in (set(), SENT) and house.revision() is None
    hub.faults.clear()
    assert house.push() == hub.repos[REPO].tags[TAG] == house.revision()
    assert len(hub.repos[REPO].commits) == 2, "the Hub's own commit and one of ours"


@pytest.mark.usefixtures("trusting")
def test_g50_hub_not_reachable(hub: Hub, house: House, waits: list[float]) -> None:
    with hub.down(), pytest.raises(ResourceError, match="HZ-G50 the upload to the Hub did not go through"):
        house.push()
    assert house.revision() is None


@pytest.mark.usefixtures("trusting")
def test_g50_killed_while_the_hub_answers_any_of_its_requests(
    hub: Hub, template: Path, tmp_path: Path
) -> None:
    import huggingface_hub.hf_api  # noqa: F401  before the fork
    import timm  # noqa: F401

    for number in range(100):
        hub.reset()
        house = House(Path(shutil.copytree(template, tmp_path / f"house{number}")))
        child, note = killer.start(house.push)
        left = iter(range(number, -1, -1))
        hub.fault("POST|PUT", then=lambda: next(left, None) == 0 and os.kill(child, signal.SIGKILL))  # noqa: B023
        try:
            done = killer.wait(child, note, 60)
        except AssertionError as error:
            assert f"status {signal.SIGKILL.value}" in str(error)
            done = False
        wait_for_quiet(hub)
        assert seen(hub) in (set(), SENT)
        hub.faults.clear()
        assert house.push() == hub.repos[REPO].tags[TAG] == hub.head(REPO) == house.revision()
        assert len(hub.repos[REPO].commits) == 2, "the Hub's own commit and one of ours"
        if done:
            break
    # create, card check, preupload, batch, four times upload and verify, commit, tag: one kill at each
    assert number == 4 + 2 * 4 + 2


def wait_for_quiet(hub: Hub) -> None:
    """Waits until the request of a killed client is answered."""
    answered = -1
    while answered != len(hub.log):
        answered = len(hub.log)
        time.sleep(0.05)


@pytest.mark.usefixtures("trusting")
def test_g50_record_that_could_not_be_written_is_written_next_time(hub: Hub, house: House) -> None:
    before = house.written()
    with no_space(100), pytest.raises(ResourceError, match="HZ-F42 the disk is full"):
        house.push()
    assert house.written() == before and seen(hub) == SENT
    assert house.push() == house.revision() == hub.head(REPO)
    assert len(hub.requests("POST .*/commit/")) == 1


# -- G51: published names never change ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("trusting")
def test_g51_same_content_again_sends_nothing(hub: Hub, house: House) -> None:
    first = house.push()
    after = house.written()
    hub.log.clear()
    assert house.push() == first and house.written() == after
    assert hub.requests("PUT|POST .*(commit|tag|create|preupload)") == []


@pytest.mark.usefixtures("trusting")
def test_g51_lost_record_is_written_again(hub: Hub, template: Path, house: House, tmp_path: Path) -> None:
    first = house.push()
    other = House(Path(shutil.copytree(template, tmp_path / "other")))
    assert other.push() == first == other.revision()


@pytest.mark.usefixtures("trusting")
def test_g51_other_content_is_refused(hub: Hub, house: House, template: Path, tmp_path: Path) -> None:
    first = house.push()
    other = House(Path(shutil.copytree(template, tmp_path / "other")))
    other.edit(other_limits)
    hub.log.clear()
    with pytest.raises(
        IntegrityError, match=r"HZ-G51 this name was published already with other content"
    ) as caught:
        other.push()
    text = str(caught.value)
    assert f"{REPO}@{first}" in text and "differing: README.md, config.json" in text and "_v2" in text
    assert registry.read_entry(other.bundle / "config.json").weights.sha256 in text
    assert (
        hub.head(REPO) == hub.repos[REPO].tags[TAG] == first and hub.requests("PUT|POST .*(commit|tag)") == []
    )


@pytest.mark.usefixtures("trusting")
def test_g51_repository_with_foreign_files_is_refused(hub: Hub, house: House) -> None:
    oid = hub.add(REPO, {"pytorch_model.bin": b"x"})
    with pytest.raises(IntegrityError, match=r"(?s)HZ-G51 .*\(no such file\).*pytorch_model\.bin"):
        house.push()
    assert hub.head(REPO) == oid


@pytest.mark.usefixtures("trusting")
def test_g51_somebody_else_commits_in_between(hub: Hub, house: House) -> None:
    hub.fault("POST .*/commit/", times=1, then=lambda: hub.add(REPO, {"config.json": b"{}"}))
    with pytest.raises(
        IntegrityError, match="HZ-G51 this name was published by somebody else at the same moment"
    ) as caught:
        house.push()
    assert caught.value.__context__.response.status_code == 412  # type: ignore[union-attr]
    assert seen(hub) == {"config.json"} and hub.repos[REPO].tags == {} and house.revision() is None


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("same", [True, False])
def test_g51_two_publishers_at_once(
    hub: Hub, house: House, template: Path, tmp_path: Path, same: bool
) -> None:
    other = House(Path(shutil.copytree(template, tmp_path / "other")))
    if not same:
        other.edit(other_limits)
    hub.create(REPO)
    met = threading.Barrier(2, timeout=30)
    hub.fault("POST .*/commit/", times=2, then=met.wait)
    results: dict[str, str | HistozooError] = {}

    def work(name: str, publisher: House) -> None:
        try:
            results[name] = publisher.push()
        except HistozooError as error:
            results[name] = error

    threads = [threading.Thread(target=work, args=pair) for pair in (("a", house), ("b", other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert seen(hub) == SENT and len(hub.repos[REPO].commits) == 2
    good = [r for r in results.values() if isinstance(r, str)]
    assert good == [hub.head(REPO)] * (2 if same else 1)
    assert all(r.code == "HZ-G51" for r in results.values() if not isinstance(r, str))


# -- the token is never shown ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("trusting")
def test_g18_no_token_in_logs_errors_files_or_other_hosts(
    hub: Hub,
    house: House,
    waits: list[float],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    errors = []
    faults = (
        {"match": "PUT", "status": 500, "body": f"token {OWNER} refused".encode()},
        {
            "match": "POST .*/commit/",
            "status": 403,
            "body": json.dumps({"error": f"no rights for {OWNER}"}).encode(),
        },
        {"match": "POST .*/preupload", "cut": 3},
        {"match": r"GET .*resolve.*model", "flip": True},
    )
    for fault in faults:
        hub.fault(**fault)
        with pytest.raises(HistozooError) as caught:
            house.push()
        errors += [str(caught.value), repr(caught.value), caught.value.text()]
        hub.faults.clear()
    for token in TOKENS[1:]:
        with pytest.raises(HistozooError) as caught:
            house.push(token=token)
        errors.append(str(caught.value))
    hub.fault("(GET|HEAD) .*resolve", redirect=True)
    house.push()
    assert {r.token for r in hub.log if r.origin == "cdn"} == {""}
    streams = capfd.readouterr()
    texts = [caplog.text, streams.out, streams.err, *house.said, *errors]
    texts += [data.decode(errors="replace") for data in house.written().values()]
    assert len(caplog.text) > 1000, "the client's own debug log is in there"
    assert [(t, text) for text in texts for t in TOKENS if t in text or t[3:] in text] == []


# -- every Hub door ----------------------------------------------------------------------------------------------------

_HEAD = """
import sys
import torch
from PIL import Image
from safetensors.torch import load_file
name, repo, revision, golden = sys.argv[1:]
golden = load_file(golden)
torch.set_num_threads(1)
tiles = [Image.fromarray(tile.numpy()) for tile in golden["tiles_BHWC"]]
"""
_TAIL = """
with torch.inference_mode():
    f_BD = features(pixels)
print(torch.equal(pixels, golden["pixels_BCHW"]), torch.equal(f_BD, golden["features_BD"]))
"""
_DOORS = {
    "histozoo": """
import histozoo
features = histozoo.load(name)
transform = histozoo.preprocess(name)
pixels = torch.stack([transform(tile) for tile in tiles])
""",
    "timm": """
import timm
assert "histozoo" not in sys.modules
features = timm.create_model(f"hf-hub:{repo}@{revision}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(features), is_training=False)
pixels = torch.stack([transform(tile) for tile in tiles])
""",
    "transformers": """
from transformers import AutoImageProcessor, AutoModel
assert "histozoo" not in sys.modules
model = AutoModel.from_pretrained(repo, revision=revision).eval()
features = lambda x: model(pixel_values=x).pooler_output
pixels = AutoImageProcessor.from_pretrained(repo, revision=revision)(tiles, return_tensors="pt").pixel_values
""",
}


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("door", _DOORS)
def test_pushed_bundle_opens_through_every_hub_door_with_equal_bits(
    hub: Hub, house: House, fresh_python, door: str
) -> None:
    revision = house.push()
    hub.log.clear()
    arguments = (NAME, REPO, revision, str(house.bundle / "golden.safetensors"))
    done = fresh_python(_HEAD + _DOORS[door] + _TAIL, *arguments, env={"HISTOZOO_ZOO": str(house.zoo)})
    assert done.stdout.split()[-2:] == ["True", "True"], done.stdout + done.stderr
    served = hub.requests(r"GET .*model\.safetensors")
    assert [r.path for r in served] == [f"/{REPO}/resolve/{revision}/model.safetensors"]
    assert {r.token for r in hub.log} == {""}
