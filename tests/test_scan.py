"""G52: what must not leave the machine is found, shown masked, and harmless text passes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from histozoo.scan import scan_file, scan_text

SECRETS = {
    "use hf_abcdefghijklmnopqrstuvwx to log in": "access token",
    "ghp_abcdefghijklmnopqrstuvwx0123": "access token",
    '"key": "AKIAABCDEFGHIJKLMNOP"': "access token",
    "Authorization: Bearer abcdefghijklmnop1234": "access token",
    "-----BEGIN RSA PRIVATE KEY-----": "private key",
    "https://anna:hunter2@example.org/x": "password",
    "password: hunter22": "password",
    "tiles are in /home/anna/tiles": "absolute path",
    '"root": "/mnt/nas/slides.csv"': "absolute path",
    "~/cache/tiles": "absolute path",
    r'"folder": "C:\\Users\\anna"': "absolute path",
    r"\\server\share\x": "absolute path",
    "file:///x.png": "absolute path",
    "scp anna@host:/data/x": "absolute path",
    "write to anna@example.org": "e-mail address",
    "slide TCGA-AB-1234-01Z-00-DX1": "patient-like number",
    "born 19800101-1234": "patient-like number",
    "078-05-1120": "patient-like number",
    "patient_id: 12345": "patient-like number",
    "MRN#0012345": "patient-like number",
    "specimen S12-34567": "patient-like number",
    "1.2.840.113619.2.5.1762583153": "patient-like number",
}
HARMLESS = (
    "https://huggingface.co/histozoo/resnet18.x_y/resolve/main/model.safetensors",
    "n/a, H/E, 1/2 and mean / std",
    "from huggingface_hub import hf_hub_download",
    "10.1038/s41591-018-0177-5, arXiv:2012.01234, doi.org/10.5281/zenodo.1214456",
    "</a> <br/> </td> | a | b/c/d | [x](docs/how.md) | `histozoo/zoo/x.json`",
    "2026-01-01 00:00:00, 0000-0002-1825-0097, cc-by-4.0",
    "50 patients, 7,180 tiles; patients: 1234; case: 3",
    'timm.create_model("hf-hub:histozoo/x@0123456789012345678901234567890123456789")',
    '"sha256": "73f81e41000000000000000000000000000000000000000000000000deadbeef"',
    '"prefix_tokens": 0, "interval": [0.81234567, 0.93456789], "lr": 1e-05',
)


@pytest.mark.parametrize(("text", "kind"), SECRETS.items())
def test_g52_found_with_line_and_kind_and_masked(text: str, kind: str) -> None:
    findings = scan_text(f"first line\n{text}\n", "README.md")
    matching = [f for f in findings if f.startswith(f"README.md:2: {kind}: ")]
    assert matching, findings
    assert all("***" in f and text not in f for f in findings)
    for finding in findings:  # nothing but the first characters of the match is shown
        assert len(finding.split(": ", 2)[2].split("***")[0]) <= 3


@pytest.mark.parametrize("text", HARMLESS)
def test_g52_harmless_text_passes(text: str) -> None:
    assert scan_text(text) == []


def test_g52_user_name_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "amueller")
    assert scan_text("trained by amueller on one GPU", "c") == ["c:1: user name: am*** (8 characters)"]
    assert scan_text("J. Amueller et al., amuellers") == []
    monkeypatch.setenv("USER", "root")
    assert scan_text("the root of all") == []


def test_g52_metadata_of_a_safetensors_file(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"from": "/home/anna/run"}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"hf_notscannedbecausethesearevalues")
    assert scan_file(path) == ["model.safetensors:1: absolute path: /ho*** (14 characters)"]


def test_g52_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'\xff\xfe "/srv/x/y"')
    assert len(scan_file(path)) == 1
