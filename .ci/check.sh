#!/usr/bin/env bash
# Style, types and import layers.
set -euo pipefail
cd "$(dirname "$0")/.."
ruff check src Testing DeepBOO DeepFluence Resources
ruff format --check src Testing DeepBOO DeepFluence Resources
mypy
lint-imports
