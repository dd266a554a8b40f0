"""All photos of a folder, resumable: python examples/05_folder_of_photos.py [FOLDER] [WORKSPACE]

Run it again and finished work is kept. One photo that fails does not stop the others.
"""

from __future__ import annotations

import sys
from pathlib import Path

import sam3d_gs as sg

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "assets"
workspace = Path(sys.argv[2] if len(sys.argv) > 2 else "out")

photos = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
for result in sg.run_many(photos, workspace):
    if result.error:
        print(f"{result.photo.name}: {result.error}")
    else:
        print(f"{result.photo.name}: {result.scene()}, report: {result.workspace.report_html}")
