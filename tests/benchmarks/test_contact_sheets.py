"""The sheet of real objects, on two drawn ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from contact_sheets import HEAD_PX, SIDE_PX, YAWS_DEG, cases, main
from PIL import Image


@pytest.mark.slow
def test_a_row_for_every_object_and_a_column_for_every_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = np.mgrid[:90, :120]
    ball, box = np.hypot(x - 30, y - 60) < 20, (abs(x - 85) < 18) & (abs(y - 60) < 20)
    rgb = np.full((90, 120, 3), 200, np.uint8)
    rgb[ball], rgb[box] = (200, 30, 30), (30, 30, 200)
    (tmp_path / "photos" / "table").mkdir(parents=True)
    Image.fromarray(rgb).save(tmp_path / "photos" / "table" / "table.png")
    for i, mask in enumerate((ball, box)):
        Image.fromarray(mask).save(tmp_path / "photos" / "table" / f"mask_{i:02d}.png")
    (tmp_path / "cutouts").mkdir()
    Image.fromarray(np.dstack([rgb, 255 * ball.astype(np.uint8)])).save(tmp_path / "cutouts" / "ball.png")

    found = cases(tmp_path / "photos", tmp_path / "cutouts", 9)
    assert [case.name for case in found] == ["table 0", "table 1", "ball"]
    assert [case.name for case in cases(tmp_path / "photos", tmp_path / "cutouts", 2)] == ["table 0", "ball"]

    sheet = tmp_path / "sheet.png"
    arguments = [str(sheet), "--photos", str(tmp_path / "photos"), "--weights", "inflation"]
    monkeypatch.setattr("sys.argv", ["contact_sheets.py", *arguments])
    main()
    pixels = np.asarray(Image.open(sheet)).astype(int)
    assert pixels.shape == (HEAD_PX + 2 * SIDE_PX, (1 + len(YAWS_DEG)) * SIDE_PX, 3)
    for row, strongest in ((0, 0), (1, 2)):  # every view of the red ball is red, of the blue box blue
        for column in range(1 + len(YAWS_DEG)):
            middle = pixels[HEAD_PX + row * SIDE_PX + 64 :, column * SIDE_PX + 64 :][:16, :16].mean((0, 1))
            assert middle.argmax() == strongest
            assert np.ptp(middle) > 40
