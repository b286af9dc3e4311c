#!/bin/sh
# Writes requirements/locked.txt: every package of the extra `dev` and of the build, with the SHA-256 of each of its files, for
# Python 3.11 to 3.13 on every platform. Needs uv (pip install uv) and a package index. Run from the root of the checkout.
set -eu
cd "$(dirname "$0")/.."
grep -A1 '^\[build-system\]' pyproject.toml | sed -n 's/^requires = \["\(.*\)"\]$/\1/p' >requirements/build.in
echo editables >>requirements/build.in  # hatchling asks for it when it installs a checkout
uv pip compile pyproject.toml requirements/build.in --extra dev --universal --python-version 3.11 --generate-hashes \
    --constraints requirements/constraints.txt --no-annotate --quiet --native-tls --no-emit-package edgecnn \
    --default-index "${INDEX:-https://pypi.org/simple}" \
    --custom-compile-command requirements/lock.sh --output-file requirements/locked.txt
rm requirements/build.in
