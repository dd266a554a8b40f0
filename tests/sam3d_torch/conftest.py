"""Shared by the tests of the native runtime."""

import pytest


@pytest.fixture(autouse=True)
def _the_same_numbers_every_time():
    import torch

    torch.manual_seed(0)
