"""The documentation builds as a site without a warning, and the site asks no other host for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

pytestmark = pytest.mark.docs

# What a browser loads by itself; <a href> is followed by people alone.
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|link)\b[^>]*?\b(?:src|srcset|href)=["']?([^"'\s>]+)"""
)
_IN_CSS = re.compile(r"""(?:url\(|@import\s*)["']?([^"')\s;]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="needs mkdocs-material (pip install '.[docs]')")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # a banner of its authors
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=quiet)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / f"{page.stem}.html").exists(), page.name


def test_the_site_loads_nothing_from_other_hosts(site: Path) -> None:
    outside = re.compile(r"^(https?:)?//")
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = path.read_text(encoding="utf-8")
        for target in (_LOADED if path.suffix == ".html" else _IN_CSS).findall(text):
            assert not outside.match(target), f"{path.relative_to(site)} loads {target}"


def test_scripts_and_sources_stay_out_of_the_site(site: Path) -> None:
    assert not list(site.rglob("*.py"))
