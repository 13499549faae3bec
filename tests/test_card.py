"""Entry -> card: complete, escaped, fresh, and every block of code in it runs."""

from __future__ import annotations

import copy
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from histozoo import candidate, card, registry
from histozoo.errors import IntegrityError
from histozoo.registry import Entry
from histozoo.tasks import TASKS
from tests.fakes.hub import Hub
from tests.fakes.run import RESULT, edit_json, make_run
from tests.fakes.tiny import NAME, tiny_zoo

ROOT = Path(__file__).parents[1]
REPO = f"histozoo/{NAME}"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EVIL = [
    "x\nlicense: mit",
    "---\nlicense: mit\n---",
    "!!python/object/apply:os.system ['true']",
    "&a [*a, *a]",
    "{{ 7 * 7 }} {% x %} ${name} $name {name}",
    "```python\nimport os\n```",
    "a | b |\n| c | d |",
    "\n\n# heading\n\n## Licence\n",
    "<script>alert(1)</script> [x](http://y) ![z](w) `code`",
    "a\u2028license: mit\u0085license: mit\r\x00\x1b[31m",
    "1. list",
    "- list",
    "'\"\\",
]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Gives a valid entry as a dictionary."""
    run = candidate.read_run(
        make_run(tmp_path_factory.mktemp("runs"), results=[RESULT, {**RESULT, "subject": "random"}])
    )
    facts = candidate.facts_of("test_resnet", tile_px=48)
    return candidate.draft(run, facts, rounding="", parents=[])


def entry_of(raw: dict[str, Any], change: Callable[[dict[str, Any]], object] = lambda h: None) -> Entry:
    raw = copy.deepcopy(raw)
    change(raw["histozoo"])
    raw["pretrained_cfg"]["license"] = raw["histozoo"]["licence"]["id"]
    return registry.parse_entry(raw, Path(f"{NAME}.json"))


def front_matter(text: str) -> dict[str, Any]:
    start, matter, _ = text.split("---\n", 2)
    assert start == ""
    return dict(yaml.safe_load(matter))


def test_render_is_a_pure_function(raw: dict[str, Any]) -> None:
    before = copy.deepcopy(raw)
    assert card.render(entry_of(raw)) == card.render(entry_of(raw)) and raw == before


def test_front_matter_is_what_the_hub_reads(raw: dict[str, Any]) -> None:
    from huggingface_hub import ModelCard

    text = card.render(entry_of(raw))
    data = ModelCard(text).data
    assert (data.license, data.library_name, data.pipeline_tag) == (
        "apache-2.0",
        "timm",
        "image-feature-extraction",
    )
    assert {"timm", "histozoo", "histopathology", "pathology", "multitask", "colon", "blood"} <= set(
        data.tags
    )
    assert data.datasets == ["blood", "glands"]
    assert data.eval_results is None  # it was trained on the one task that it was measured on


def test_other_licences_carry_a_name_and_a_link(raw: dict[str, Any]) -> None:
    text = card.render(
        entry_of(raw, lambda h: h["licence"].update(id="other", reason="research use only: x"))
    )
    matter = front_matter(text)
    assert (matter["license"], matter["license_name"], matter["license_link"]) == (
        "other",
        "histozoo-research-only",
        "README.md",
    )
    assert "## Licence\n\nother: research use only: x.\n" in text
    assert "license_name" not in front_matter(card.render(entry_of(raw)))


def test_card_says_everything_a_reader_needs(raw: dict[str, Any]) -> None:
    text = card.render(entry_of(raw))
    assert card.problems(text, entry_of(raw)) == []
    for said in (
        "Features of H&E tiles for research.", "not a medical device", "| glands | colon | H&E | 120 | 16 | CC0-1.0 | glands |",
        "| blood | blood | Giemsa | 120 | 16 | CC BY 4.0 | blood |", "- glands: A. Author, Glands, 2020.", "48 x 48 px, RGB",
        "0.7, 0.5, 0.65", "0.2, 0.25, 0.2", "shorter_side, bicubic, antialiased",
        "| glands | probe, balanced_accuracy | 36 | 5 | 0.875 ", " | not measured |",
        f"histozoo verify {NAME}", f'histozoo.load("{NAME}", num_classes=3)',
        "every tile was resized to 48 px whatever its pixel size",
    ):  # fmt: skip
        assert said in text, said


def test_hub_doors_are_pinned_once_the_revision_is_known(raw: dict[str, Any]) -> None:
    revision = "0123456789" * 4
    unpinned, pinned = (
        card.render(entry_of(raw)),
        card.render(entry_of(raw, lambda h: h["weights"].update(revision=revision))),
    )
    assert f'"hf-hub:{REPO}@{revision}"' in pinned and pinned.count(f'revision="{revision}"') == 5
    assert (
        f'"hf-hub:{REPO}"' in unpinned and "Pin those to a commit" in unpinned and "Pin those" not in pinned
    )


def test_rows_of_tasks_left_out_are_not_passed_off_as_these_weights(raw: dict[str, Any]) -> None:
    def leave_out(h: dict[str, Any]) -> None:
        h["results"][0]["left_out"] = True

    text = card.render(entry_of(raw, leave_out))
    left_out, trained_on = text.split("### Tasks it was trained on")
    assert (
        "### Tasks left out of training" in left_out and "show the recipe, not these very weights" in left_out
    )
    assert (
        "| glands | probe, balanced_accuracy | 36 | 5 | 0.875" in left_out
        and "these very weights" not in trained_on
    )
    assert "these very weights" not in card.render(entry_of(raw))


def test_the_hub_reads_only_what_these_weights_did_on_tasks_that_they_never_saw(raw: dict[str, Any]) -> None:
    def unseen(h: dict[str, Any]) -> None:
        h["results"] += [{**r, "task": "unseen", "left_out": True} for r in h["results"]]

    assert "model-index" not in front_matter(card.render(entry_of(raw)))
    (found,) = front_matter(card.render(entry_of(raw, unseen)))["model-index"]
    (result,) = found["results"]  # the random baseline is in the table, not in the index
    (metric,) = result["metrics"]
    assert (result["dataset"]["name"], metric["type"], metric["value"]) == (
        "unseen",
        "balanced_accuracy",
        0.875,
    )


@pytest.mark.parametrize(
    ("protocol", "kind", "words"),
    [
        ("logistic", "image-classification", "logistic on frozen features"),
        ("finetune_full@10%", "image-classification", "finetune_full@10%"),
        (
            "segmentation_finetuned_2_groups_of_a",
            "image-segmentation",
            "segmentation_finetuned_2_groups_of_a",
        ),
    ],
)
def test_the_hub_is_not_told_that_weights_trained_on_were_frozen(
    raw: dict[str, Any], protocol: str, kind: str, words: str
) -> None:
    def change(h: dict[str, Any]) -> None:
        h["results"] = [{**r, "task": "unseen", "left_out": True, "protocol": protocol} for r in h["results"]]

    (found,) = front_matter(card.render(entry_of(raw, change)))["model-index"]
    assert {tuple(r["task"].values()) for r in found["results"]} == {(kind, words)}


def test_a_result_on_slides_of_the_corpus_under_another_name_is_none_of_these_weights(
    raw: dict[str, Any],
) -> None:
    def change(h: dict[str, Any]) -> None:
        h["corpus"][0] |= {"task": "lc25000_colon", "lineage": TASKS["lc25000_colon"].lineage}
        h["results"] = [{**h["results"][0], "task": "lc25000_full_lung", "left_out": True}]

    text = card.render(entry_of(raw, change))
    assert "model-index" not in front_matter(text)
    assert "### Tasks left out of training" in text and "### Tasks it never saw" not in text


def test_a_task_without_a_recorded_value_is_named(raw: dict[str, Any]) -> None:
    assert "Trained on as well, with no value recorded: blood.\n" in card.render(entry_of(raw))

    def measure_both(h: dict[str, Any]) -> None:
        h["results"].append({**h["results"][0], "task": "blood"})

    assert "no value recorded" not in card.render(entry_of(raw, measure_both))


# -- A9: nothing from an entry becomes structure --


def _poisoned(raw: dict[str, Any], evil: str) -> Entry:
    def poison(h: dict[str, Any]) -> None:
        h |= {"intended_use": evil, "limits": evil, "notes": evil}
        h["licence"] = {"id": evil, "reason": evil}
        h["contract"]["mpp_reason"] = evil
        h["parents"] = [{"name": evil, "sha256": None}]
        for number, item in enumerate(h["corpus"]):
            item |= dict.fromkeys(("organ", "stain", "licence", "source", "citation", "lineage"), evil)
            item["task"] = evil + str(number)  # tasks are distinct
        for result in h["results"]:
            result |= {"task": evil, "protocol": evil, "metric": evil}

    poisoned = entry_of(raw, poison)
    poisoned.raw["pretrained_cfg"]["description"] = evil
    return poisoned


@pytest.mark.parametrize("evil", EVIL)
def test_a09_a_value_cannot_inject_keys_headings_rows_or_code(raw: dict[str, Any], evil: str) -> None:
    clean, text = card.render(entry_of(raw)), card.render(_poisoned(raw, evil))
    assert front_matter(text).keys() == front_matter(clean).keys()
    assert (
        front_matter(text)["license"] == card._line(evil) and card.problems(text, _poisoned(raw, evil)) == []
    )
    body, clean_body = (t.split("\n---\n", 1)[1] for t in (text, clean))
    for structure in (r"^#+ .*$", r"^```.*$", r"^---+$", r"^\s*(\d+[.)]|[-+*])\s"):
        found = [m[0] for m in re.finditer(structure, body, re.MULTILINE)]
        assert found == [m[0] for m in re.finditer(structure, clean_body, re.MULTILINE)], structure
    assert len(body.splitlines()) == len(clean_body.splitlines())
    cells = [re.sub(r"\\.", "", line).count("|") for line in body.splitlines() if line.startswith("|")]
    assert cells == [line.count("|") for line in clean_body.splitlines() if line.startswith("|")]
    assert BLOCK.findall(body) == BLOCK.findall(clean_body)
    plain = re.sub(r"`[^`]*`", "", re.sub(r"\\.", "", BLOCK.sub("", body)))
    assert not re.search(r"<|\]\(|[\x00-\x08\x0b-\x1f\x7f\x85\u2028]", plain)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t.replace("license: apache-2.0", "license: mit"), "front matter reads back differently"),
        (
            lambda t: t.replace("library_name", "extra: 1\nlibrary_name"),
            "front matter reads back differently",
        ),
        (
            lambda t: t.replace("license: apache-2.0", "license: !!python/name:os.system"),
            "front matter is not YAML",
        ),
        (lambda t: t.replace("license: apache-2.0", "license: [apache"), "front matter is not YAML"),
        (lambda t: t.replace("license: apache-2.0", "license: &a [*a, *a, *a]"), "front matter"),
        (lambda t: t.replace("## Limits", "## Other"), "no section 'Limits'"),
        (lambda t: t + "x" * card.MAX_BYTES, "longer than 1,048,576 bytes"),
    ],
)
def test_a09_a_card_that_does_not_say_what_the_entry_says_is_found(
    raw: dict[str, Any], change: Callable[[str], str], problem: str
) -> None:
    entry = entry_of(raw)
    found = card.problems(change(card.render(entry)), entry)
    assert len(found) == 1 and found[0].startswith(problem)


def test_a09_an_alias_bomb_is_not_expanded(raw: dict[str, Any]) -> None:
    lines = ["a0: &a0 [1, 2, 3]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30))]
    entry = entry_of(raw)
    text = card.render(entry).replace("library_name: timm", "\n".join(["library_name: timm", *lines]))
    assert card.problems(text, entry) == ["front matter reads back differently"]


def test_a09_a_metric_that_is_no_number_never_reaches_a_card(raw: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match="HZ-A07"):
        entry_of(raw, lambda h: h["results"][0].update(value=float("nan")))


# -- files --


@pytest.fixture
def shelf(raw: dict[str, Any], tmp_path: Path) -> tuple[Path, Path]:
    """A zoo with one entry and its fresh card."""
    zoo, cards = tmp_path / "zoo", tmp_path / "cards"
    zoo.mkdir()
    (zoo / f"{NAME}.json").write_text(json.dumps(raw))
    assert card.write(zoo, cards) == [cards / f"{NAME}.md"]
    return zoo, cards


def test_a_fresh_card_is_left_alone(shelf: tuple[Path, Path]) -> None:
    assert card.check(*shelf) == [] and card.write(*shelf) == []
    card.require_fresh(*shelf)


def test_missing_stale_and_orphan_cards_are_found(shelf: tuple[Path, Path]) -> None:
    zoo, cards = shelf
    (cards / f"{NAME}.md").rename(cards / "resnet18.multitask_gone.md")
    (cards / "README.md").write_text("how to read these")
    assert card.check(zoo, cards) == [
        f"{NAME}.md is missing: run `histozoo card --write`",
        "resnet18.multitask_gone.md is an orphan, no entry has this name: delete it",
    ]
    card.write(zoo, cards)
    edit_json(zoo / f"{NAME}.json", lambda e: e["histozoo"].update(limits="Other limits."))
    with pytest.raises(IntegrityError, match="HZ-U21 2 model cards do not match the zoo") as refused:
        card.require_fresh(zoo, cards)
    assert f"{NAME}.md is stale" in str(refused.value)


def test_every_card_of_the_repository_is_fresh() -> None:
    assert card.check(registry.ZOO, ROOT / "model_cards") == []


# -- code --


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_zoo(), tmp_path / "house")) / "dist" / NAME


@pytest.fixture
def blocks(bundle: Path, hub: Hub) -> list[tuple[str, str]]:
    """The blocks of the card of a model that was pushed, its revision recorded."""
    zoo, cards = bundle.parents[1] / "zoo", bundle.parents[1] / "model_cards"
    revision = hub.add_folder(REPO, bundle)
    edit_json(zoo / f"{NAME}.json", lambda e: e["histozoo"]["weights"].update(revision=revision))
    card.write(zoo, cards)
    return BLOCK.findall((cards / f"{NAME}.md").read_text())


RUN = """
import json, sys, torch
torch.hub._get_cache_or_reload = lambda *args, **kwargs: sys.argv[2]  # the clone, instead of asking GitHub for one
features, models = [], 0
for block in json.loads(sys.argv[1]):
    seen = {}
    exec(compile(block, block, "exec"), seen)
    models += "model" in seen
    features += [seen["features_BD"].detach().tolist()] if "features_BD" in seen else []
print(json.dumps({"features": features, "models": models, "histozoo": "histozoo" in sys.modules}))
"""


def test_every_python_block_runs_in_a_fresh_process(
    blocks: list[tuple[str, str]], bundle: Path, fresh_python: Callable[..., Any]
) -> None:
    python = [code for language, code in blocks if language == "python"]
    ours = [code for code in python if "import histozoo" in code or "torch.hub" in code]
    strangers = [code for code in python if code not in ours]
    env = {"HISTOZOO_ZOO": str(bundle.parents[1] / "zoo")}
    first, second = (
        json.loads(
            fresh_python(RUN, json.dumps(part), str(ROOT), env=env, timeout=900).stdout.splitlines()[-1]
        )
        for part in (ours, strangers)
    )
    assert (first["models"], second["models"]) == (4, 3) and second["histozoo"] is False
    features = first["features"] + second["features"]
    assert len(features) == 3 and all(f == features[0] for f in features)


def test_every_shell_block_runs(
    blocks: list[tuple[str, str]], bundle: Path, fresh_python: Callable[..., Any]
) -> None:
    commands = [
        shlex.split(line) for language, code in blocks if language == "bash" for line in code.splitlines()
    ]
    assert [c[:2] for c in commands] == [["histozoo", "verify"]]
    code = "import sys; from histozoo.cli import main; sys.argv[0] = 'histozoo'; main()"
    for command in commands:
        done = fresh_python(
            code, *command[1:], env={"HISTOZOO_ZOO": str(bundle.parents[1] / "zoo")}, timeout=900
        )
        assert "pass" in done.stdout
