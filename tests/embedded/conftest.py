"""The made photos lifted by the real engines, once for all tests."""

from __future__ import annotations

import pytest

from sam3d_gs.engines.objects_embedded import EmbeddedObjects
from sam3d_gs.options import EmbeddedObjectOptions
from sam3d_gs.types import PlacedObject
from tests.embedded.lifting import lift
from tests.embedded.photos import Picture, street, table


@pytest.fixture(scope="session")
def engine() -> EmbeddedObjects:
    return EmbeddedObjects(EmbeddedObjectOptions())


@pytest.fixture(scope="session")
def street_with_specks() -> Picture:
    """The ball's mask has specks far from the ball."""
    picture = street()
    mask = picture.masks["ball"].mask.copy()
    mask[8:10, 200:202] = mask[150:152, 20:22] = True
    return picture.with_mask("ball", mask)


@pytest.fixture(scope="session")
def street_objects(engine: EmbeddedObjects, street_with_specks: Picture) -> dict[str, PlacedObject]:
    return lift(engine, street_with_specks)


@pytest.fixture(scope="session")
def table_objects(engine: EmbeddedObjects) -> dict[str, PlacedObject]:
    return lift(engine, table())
