"""What sam3d_gs has to know of the engine. This file is read at every start, so it imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

import sam3d_gs as sg


@dataclass(frozen=True)
class BrightestOptions(sg.EngineOptions):
    """Each field made by `option` is an option of the command line: --brightness."""

    brightness: float = sg.option(0.7, "Mask what is at least this bright, from 0 to 1.", min=0, max=1)


SPEC = sg.EngineSpec(
    stage="masks",
    name="brightest",
    target="example_engine.masks:BrightestMasks",
    options=BrightestOptions,
    summary="one mask of all bright pixels",
    install="pip install example-engine",
    modules=("example_engine",),
)
