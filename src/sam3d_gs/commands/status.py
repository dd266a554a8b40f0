"""`sam3d-gs status`: what has been done for each photo, according to its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam3d_gs.commands.options import Root
from sam3d_gs.commands.terminal import one_line, say, say_json
from sam3d_gs.errors import EXIT_FAILED, EXIT_PARTIAL, BadInputError, as_one_line
from sam3d_gs.options import STAGES

if TYPE_CHECKING:
    from sam3d_gs.manifest import Manifest, StageRecord
    from sam3d_gs.workspace import Workspace


def status(
    photos: Annotated[
        list[Path] | None,
        typer.Argument(help="Photos, or their names in the workspace. Default: all.", metavar="PHOTO", readable=False),
    ] = None,
    workspace: Root = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the state of the stages and objects of each photo. Exit code 3 if that of some cannot be read."""
    from sam3d_gs.pipeline import all_workspaces, find_workspace

    root = workspace.absolute()
    states: list[dict[str, Any]] = []
    for wanted in photos or all_workspaces(root):
        try:
            states.append(as_data(find_workspace(root, wanted) if isinstance(wanted, Path) else wanted))
        except Exception as error:  # that of one photo hides no others
            name = wanted.name if isinstance(wanted, Path) else wanted.photo
            states.append({"photo": {"name": name}, "error": str(as_one_line(error))})
    if as_json:
        say_json(states)
    elif not states:
        say(f"No photos have been processed in {root}.")
    else:
        say("\n\n".join(as_table(state) for state in states))
    damaged = sum("error" in state for state in states)
    if damaged:
        raise typer.Exit(EXIT_PARTIAL if damaged < len(states) else EXIT_FAILED)


def as_data(workspace: Workspace) -> dict[str, Any]:
    """Stages and objects of one photo, for `status --json`. Raises BadInputError if its manifest cannot be read."""
    manifest = _manifest(workspace)
    stages = {name: _stage(manifest.stages.get(name)) for name in STAGES}
    return {"photo": dict(manifest.photo), "stages": stages, "objects": _objects(workspace, manifest)}


def as_table(data: dict[str, Any]) -> str:
    """What `as_data` returns as two aligned tables: stages, then objects."""
    photo = data["photo"]
    if "error" in data:
        return one_line(f"{photo['name']}  {data['error']}")
    rows = [["stage", "status", "engine", "seconds", "problems"]]
    for name, stage in data["stages"].items():
        problem = stage["errors"].get("stage", "") or (f"{len(stage['errors'])} failed" if stage["errors"] else "")
        rows.append([name, stage["status"], stage["engine"], f"{stage['seconds']:.1f}", problem])
    head = f"{photo['name']}  ({photo['file']}, {photo['width_px']} x {photo['height_px']} px)"
    lines = [one_line(head), *aligned(rows)]
    if data["objects"]:
        rows = [["object", "status", "file"]]
        rows += [[o["object_id"], o["status"], o["file"] or o["reason"]] for o in data["objects"]]
        lines += ["", *aligned(rows)]
    return "\n".join(lines)


def _manifest(workspace: Workspace) -> Manifest:
    from sam3d_gs import manifest as manifests

    manifest = manifests.load(workspace.manifest)
    if manifest is None:
        raise BadInputError(f"No manifest at {workspace.manifest}.")
    return manifest


def _stage(record: StageRecord | None) -> dict[str, Any]:
    if record is None:
        return {"status": "to do", "engine": "-", "seconds": 0.0, "errors": {}}
    status = "interrupted or running" if record.status == "running" else record.status
    return {"status": status, "engine": record.engine, "seconds": record.seconds, "errors": dict(record.errors)}


def _objects(workspace: Workspace, manifest: Manifest) -> list[dict[str, str]]:
    from sam3d_gs.masks.files import kept_ids

    record = manifest.stages.get("objects")
    if "masks" not in manifest.stages:
        return []
    rows = []
    for object_id in sorted(kept_ids(workspace)):
        item = record.items.get(object_id) if record else None
        reason = record.errors.get(object_id, "") if record else ""
        status = "done" if item else "failed" if reason else "to do"
        rows.append({"object_id": object_id, "status": status, "file": item.output if item else "", "reason": reason})
    return rows


def aligned(rows: list[list[str]]) -> list[str]:
    """The lines of a table; all rows must have the same number of cells."""
    rows = [[" ".join(cell.splitlines()) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
