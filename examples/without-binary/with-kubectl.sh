#!/bin/sh
# A step that asks and waits with kubectl alone. The exit code says how it ended, and only 0 lets a step go on:
# 0 released, 3 denied, 4 expired, 5 cancelled or gone, 1 anything else. Started anew, it goes on where it was.
#
#   with-kubectl.sh JOB.yaml REQUEST.yaml
set -eu

# Created, unless an earlier life of this step has done it.
ensure() {
    [ -n "$(kubectl get --ignore-not-found -o name -f "$1")" ] || kubectl create -f "$1" >&2
}

ensure "$1"
ensure "$2"
while :; do
    # Returns when it is released; a denial is seen when this has waited for a while.
    kubectl wait -f "$2" --for=condition=Released --timeout=15s >/dev/null 2>&1 || true
    # An API server that does not answer is asked again.
    if ! state=$(kubectl get --ignore-not-found -f "$2" -o 'jsonpath={.status.state}|{.metadata.uid}'); then
        sleep 5
        continue
    fi
    case $state in
    Released\|*) echo "released" >&2; exit 0 ;;
    Denied\|*) echo "denied" >&2; exit 3 ;;
    Expired\|*) echo "expired" >&2; exit 4 ;;
    Cancelled\|*) echo "cancelled" >&2; exit 5 ;;
    "") echo "the request is gone" >&2; exit 5 ;;
    esac
done
