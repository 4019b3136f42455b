#!/bin/sh
# A step that asks and waits with curl alone, in a Pod, as its service account. The exit code says how it ended, and only 0
# lets a step go on: 0 released, 3 denied, 4 expired, 5 cancelled or gone, 1 anything else. Started anew, it goes on where it
# was. The Job is held and started by Countersign; a step that goes on with work of its own should use `countersign request`,
# which also notices when another request took the name.
#
#   with-curl.sh JOB.yaml REQUEST.yaml NAME_OF_REQUEST
set -eu
job=$1 request=$2 name=$3
account=${SERVICE_ACCOUNT_DIR:-/var/run/secrets/kubernetes.io/serviceaccount}
server=${API_SERVER:-https://kubernetes.default.svc}
namespace=$(cat "$account/namespace")
requests=/apis/countersign.dev/v1alpha1/namespaces/$namespace/approvalrequests
jobs=/apis/batch/v1/namespaces/$namespace/jobs

# call METHOD PATH ACCEPT [FILE]: prints the answer, and its code on a line of its own. The token goes in by standard input,
# where no list of processes shows it, and is read each time, since it is replaced now and then.
call() {
    printf 'Authorization: Bearer %s' "$(cat "$account/token")" |
        curl --silent --show-error --max-time 30 --cacert "$account/ca.crt" --request "$1" \
            --header @- --header "Accept: $3" --header 'Content-Type: application/yaml' \
            ${4:+--data-binary "@$4"} --write-out '\n%{http_code}\n' "$server$2"
}

code() { printf '%s\n' "$1" | tail -n 1; }

# Whether to ask again: nobody answers, the API server is busy, or the operator does not answer it.
passes() {
    case $1 in 000 | 429 | 5??) sleep 5 ;; *) return 1 ;; esac
}

# create PATH FILE: created, unless an earlier life of this step has done it.
create() {
    while :; do
        answer=$(call POST "$1" application/json "$2") || true
        case $(code "$answer") in
        201 | 409) return ;;
        esac
        passes "$(code "$answer")" || { printf '%s\n' "$answer" >&2; exit 1; }
    done
}

create "$jobs" "$job"
create "$requests" "$request"

# The columns of `kubectl get`, and nothing that a requester wrote: the state is the second.
table='application/json;as=Table;v=v1;g=meta.k8s.io'
while :; do
    answer=$(call GET "$requests/$name?includeObject=None&pretty=false" "$table") || true
    case $(code "$answer") in
    200) ;;
    404) echo "the request is gone" >&2; exit 5 ;;
    *) passes "$(code "$answer")" || { printf '%s\n' "$answer" >&2; exit 1; }; continue ;;
    esac
    case $(printf '%s' "$answer" | sed -n 's/.*"cells":\["[^"]*","\([A-Za-z]*\)".*/\1/p') in
    Released) echo "released" >&2; exit 0 ;;
    Denied) echo "denied" >&2; exit 3 ;;
    Expired) echo "expired" >&2; exit 4 ;;
    Cancelled) echo "cancelled" >&2; exit 5 ;;
    esac
    sleep "${POLL_SECONDS:-5}"
done
