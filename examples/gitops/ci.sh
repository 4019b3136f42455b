#!/usr/bin/env bash
# Renders what each cluster gets, and tests that: every policy must compile and be one that the API server takes, and every rule
# of every cluster must be matched by a test. Takes kubectl and countersign on the PATH, and no cluster.
#
#   ./ci.sh [JUNIT-XML]
#
# Exit code: 0 all is well; else a cluster cannot be rendered, a policy is broken, or a test fails or is missing.
set -Eeuo pipefail
junit=(${1:+--junit "$(realpath -m -- "$1")"})
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
mkdir "$work/rendered"
for cluster in clusters/*/; do
    kubectl kustomize "$cluster" >"$work/rendered/$(basename -- "$cluster").yaml"
done
cp -r tests "$work/tests"

# The API server says who changed a policy. Git that says it too would differ from it for ever.
if grep -n 'countersign.dev/edited-by' "$work"/rendered/*.yaml >&2; then
    echo 'countersign.dev/edited-by is stamped by admission: take it out of Git' >&2
    exit 1
fi

cd -- "$work"
countersign policy test . --require-coverage "${junit[@]}"
