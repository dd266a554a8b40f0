"""The arrow of imports: the command line starts with the base install alone, and nothing imports upward."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "sam3d_gs"
HEAVY = {
    "torch",
    "numba",
    "scipy",
    "skimage",
    "viser",
    "gsply",
    "gsplat",
    "safetensors",
    "transformers",
    "vllm",
    "cv2",
    "huggingface_hub",
}
# Only these may import heavy packages at the top of the file; they are themselves imported late.
HEAVY_PLACES = ("engines/", "embedded/", "sam3d_torch/", "sam3_networks/", "report/viewer.py", "gaussians/rasterise")
# Lower layers never import higher ones.
LAYERS = [
    ("types", "options", "option_flags", "errors", "redaction"),
    (
        "files",
        "locks",
        "json_values",
        "numpy_files",
        "manifest",
        "workspace",
        "photo",
        "masks.png",
        "weights.repositories",
        "weights.hub",
        "weights.certificates",
        "weights.remote_files",
        "weights.transfer",
        "system.addresses",
        "system.machine",
        "system.nvidia",
        "system.devices",
    ),
    ("edits", "phrase_files", "masks", "rgbd", "scene_files", "gaussians", "engines.api", "vlm.model"),
    ("engines.spec", "engines.plugins", "engines.registry"),
    ("embedded", "sam3d_torch", "sam3_networks", "vlm"),
    ("engines", "report", "assets"),
    ("stages", "scene"),
    ("pipeline", "api", "fleet", "weights", "system"),
    ("commands",),
    ("cli",),
]


def _layer(module: str) -> int:
    found = [
        (len(name), level)
        for level, names in enumerate(LAYERS)
        for name in names
        if module == name or module.startswith(name + ".")
    ]
    assert found, f"{module} is in no layer: add it to LAYERS"
    return max(found)[1]


def _modules() -> list[tuple[str, Path]]:
    return [
        (".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"), path)
        for path in sorted(SOURCE.rglob("*.py"))
        if path not in (SOURCE / "__init__.py", SOURCE / "__main__.py")
    ]


def _imports(tree: ast.AST) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize(("module", "path"), _modules())
def test_no_import_points_upward(module: str, path: Path) -> None:
    for name in _imports(ast.parse(path.read_text(encoding="utf-8"))):
        if not name.startswith("sam3d_gs."):
            continue
        inner = name.removeprefix("sam3d_gs.")
        target = SOURCE.joinpath(*inner.split("."))
        if target.with_suffix(".py").exists() or (target / "__init__.py").exists():
            assert _layer(inner) <= _layer(module), f"{module} imports {inner}, which lies above it"


@pytest.mark.slow
@pytest.mark.parametrize(("module", "path"), _modules())
def test_heavy_packages_are_imported_late(module: str, path: Path) -> None:
    relative = path.relative_to(SOURCE).as_posix()
    if relative.startswith(HEAVY_PLACES):
        return
    top = ast.Module([n for n in ast.parse(path.read_text(encoding="utf-8")).body if _runs_at_import(n)], [])
    roots = {name.split(".")[0] for name in _imports(top)}
    assert not roots & HEAVY, f"{relative} imports {roots & HEAVY} at the top"


def _runs_at_import(node: ast.stmt) -> bool:
    guarded = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return not guarded and not isinstance(node, (ast.FunctionDef, ast.ClassDef))


@pytest.mark.slow
def test_the_command_line_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from sam3d_gs.cli import app\n"
        "from typer.testing import CliRunner\n"
        "for command in ([], ['run'], ['view'], ['export']):\n"
        "    assert CliRunner().invoke(app, [*command, '--help']).exit_code == 0\n"
        "print(' '.join(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert not loaded & (HEAVY | {"numpy", "PIL"}), loaded & (HEAVY | {"numpy", "PIL"})


@pytest.mark.slow
@pytest.mark.parametrize("blocked", ["torch", "numba"])
def test_a_missing_package_is_one_line_with_the_cure(tmp_path: Path, picture: Path, blocked: str) -> None:
    """As in an environment that lacks the package: the import of it fails."""
    code = (
        "import sys\n"
        f"sys.modules[{blocked!r}] = None\n"
        "from sam3d_gs.cli import main\n"
        f"sys.argv = ['sam3d-gs', 'run', {str(picture)!r}, '-w', {str(tmp_path / 'out')!r}]\n"
        "main()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert blocked in result.stderr
    assert "pip install" in result.stderr
