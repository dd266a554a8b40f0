"""`sam3d-gs status`: what has been done for each photo, according to its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam3d_gs.commands.options import Root
from sam3d_gs.commands.terminal import say, say_json
from sam3d_gs.errors import EXIT_FAILED, EXIT_PARTIAL, BadInputError
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
    found = [find_workspace(root, path) for path in photos] if photos else list(all_workspaces(root))
    states: list[dict[str, Any]] = []
    for own in found:
        try:
            states.append(as_data(own))
        except BadInputError as error:  # that of one photo hides no others
            states.append({"photo": {"name": own.photo}, "error": str(error)})
    if as_json:
        say_json(states)
    elif not found:
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
        return f"{photo['name']}  {data['error']}"
    rows = [["stage", "status", "engine", "seconds", "problems"]]
    for name, stage in data["stages"].items():
        problem = stage["errors"].get("stage", "") or (f"{len(stage['errors'])} failed" if stage["errors"] else "")
        rows.append([name, stage["status"], stage["engine"], f"{stage['seconds']:.1f}", problem])
    lines = [f"{photo['name']}  ({photo['file']}, {photo['width_px']} x {photo['height_px']} px)", *aligned(rows)]
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
    record = manifest.stages.get("objects")
    masks = manifest.stages.get("masks")
    if masks is None:
        return []
    folder = workspace.relative(workspace.masks_dir)
    kept = [path for path in masks.outputs if path.endswith(".png") and path.rsplit("/", 1)[0] == folder]
    rows = []
    for object_id in sorted(path.rsplit("/", 1)[1].removesuffix(".png") for path in kept):
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
