#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Builds the chart library that pages of `bittern bench report` carry, from the versions that package-lock.json pins by
# hash: the parts of Apache ECharts that charts.js names, in one file, and their licences. Needs node and npm.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp package.json package-lock.json charts.js "$work"
assets=$PWD/../../src/bittern/bench/page/assets
cd "$work"
npm ci --silent --no-audit --no-fund --ignore-scripts
version=$(node -p 'require("echarts/package.json").version')
banner="// SPDX-License-Identifier: Apache-2.0
// Apache ECharts $version, with zrender and parts of d3 (BSD-3-Clause) and tslib (0BSD): charts.LICENSE.txt. Made by tools/charts/build.sh."
node_modules/@esbuild/*/bin/esbuild charts.js --bundle --minify --format=iife --target=es2020 --legal-comments=none \
  '--define:process.env.NODE_ENV="production"' --banner:js="$banner" --outfile="$assets/charts.js" --log-level=warning
{
  echo "charts.js is made of Apache ECharts $version and of what that is made of. Their notices and licences:"
  for file in echarts/NOTICE echarts/LICENSE echarts/licenses/LICENSE-d3 zrender/LICENSE tslib/LICENSE.txt; do
    printf '\n==== %s ====\n\n' "$file"
    tr -d '\r' <"node_modules/$file"
  done
} >"$assets/charts.LICENSE.txt"
