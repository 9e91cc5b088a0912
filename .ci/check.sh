#!/usr/bin/env bash
# Style, types and import layers.
set -euo pipefail
cd "$(dirname "$0")/.."
ruff check src Testing
ruff format --check src Testing
mypy
lint-imports
