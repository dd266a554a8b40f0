from __future__ import annotations

from pathlib import Path

import pytest

from tests.sam3_networks.tiny import save_tiny


@pytest.fixture(scope="session")
def tiny_sam3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny checkpoint; skips without transformers."""
    return save_tiny(tmp_path_factory.mktemp("sam3"))
