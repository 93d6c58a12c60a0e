#!/usr/bin/env bash
# Resolves requirements/*.txt anew into the constraints files, which hold every version.
# Versions already there stay where they still fit; `scripts/pin.sh --upgrade` moves them on.
set -euo pipefail
cd "$(dirname "$0")/../requirements"
tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
python3 -m venv "$tool"
"$tool/bin/pip" install --quiet uv

resolve() {
    "$tool/bin/uv" pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate "$@"
}

parts=(runtime.txt inference-cpu.txt inference-gpu.txt test.txt training.txt torch.txt)
resolve "$@" -o constraints.txt limits.in "${parts[@]}" ros.txt ros-build.txt
resolve "$@" -o constraints-numpy1.txt limits-numpy1.in "${parts[@]}"
