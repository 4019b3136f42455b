"""An agent that stops in the middle of its own work, and goes on after a person has approved.

There is no Job to start: the agent's own Pod waits, so only this code keeps it from going on. Whatever is not a clear
release of the very request that it made ends the tool call. Killed and started anew, it finds its request again.

    agent.py RUN_ID NAMESPACE

Uses Python's official Kubernetes client. Exit code: 0 done, 3 denied, 4 expired, 5 cancelled, 6 not its own request.
"""

import sys
import time

from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

KIND = {"group": "countersign.dev", "version": "v1alpha1", "plural": "approvalrequests"}
ENDS = {"Released": 0, "Denied": 3, "Expired": 4, "Cancelled": 5}


class NotOurs(Exception):
    """The request of that name is not the one that was asked."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def patiently(call):
    """Calls until there is an answer. An API server that restarts, and an operator that does, are waited for."""
    pause = 1
    while True:
        try:
            return call()
        except (ApiException, HTTPError) as error:
            status = getattr(error, "status", None) or 0
            if 0 < status < 500 and status not in (408, 410, 429):
                raise
            say(f"no answer ({status or type(error).__name__}); trying again")
            time.sleep(pause)
            pause = min(2 * pause, 30)


class Gate:
    """Asks for approvals in one namespace, as the service account of this Pod."""

    def __init__(self, namespace):
        self.api = client.CustomObjectsApi()
        self.place = {**KIND, "namespace": namespace}

    def ask(self, request):
        """Creates the request, or finds the one of an earlier life. Returns it as stored."""
        name = request["metadata"]["name"]
        try:
            return patiently(lambda: self.api.create_namespaced_custom_object(**self.place, body=request))
        except ApiException as error:
            if error.status != 409:
                raise
        stored = patiently(lambda: self.api.get_namespaced_custom_object(**self.place, name=name))
        for field, value in request["spec"].items():
            if stored["spec"].get(field) != value:
                raise NotOurs(f"{name} is there already, with another {field}")
        say(f"{name}: found")
        return stored

    def wait(self, request):
        """Blocks until the request is at its end. Returns its last state, and the message with it."""
        told = None
        while True:
            for stored in patiently(lambda: self.versions(request)):
                # A name says little: somebody may have removed the request and made another.
                if stored["metadata"]["uid"] != request["metadata"]["uid"]:
                    raise NotOurs(f"{request['metadata']['name']} was replaced")
                status = stored.get("status", {})
                state, message = status.get("state"), status.get("message", "")
                if state != told:
                    told = state
                    say(f"{state}: {message}")
                if state in ENDS:
                    return state, message

    def versions(self, request):
        """The request as it is now and, for a minute, as it becomes."""
        name = request["metadata"]["name"]
        try:
            now = self.api.get_namespaced_custom_object(**self.place, name=name)
        except ApiException as error:
            if error.status != 404:
                raise
            return [{**request, "status": {"state": "Cancelled", "message": "the request is gone"}}]
        return self.until_quiet(now)

    def until_quiet(self, now):
        yield now
        here = f"metadata.name={now['metadata']['name']}"
        since = now["metadata"]["resourceVersion"]
        events = watch.Watch().stream(
            self.api.list_namespaced_custom_object,
            **self.place,
            field_selector=here,
            resource_version=since,
            timeout_seconds=60,
        )
        try:
            for event in events:
                if event["type"] == "DELETED":
                    return
                yield event["object"]
        except (ApiException, HTTPError) as error:
            # The caller looks anew, and says so if nobody answers then.
            say(f"the watch ended: {type(error).__name__}")
            time.sleep(1)


def main(run_id, namespace):
    config.load_config()
    gate = Gate(namespace)

    rows = 4211  # the agent's own work, up to here: it has found what it would delete
    say(f"found {rows} sessions that nobody uses")

    request = gate.ask(
        {
            "apiVersion": "countersign.dev/v1alpha1",
            "kind": "ApprovalRequest",
            "metadata": {"name": f"agent-{run_id}-delete-sessions"},
            "spec": {
                "runID": run_id,
                "stepID": "delete-sessions",
                "requestedBy": "agent.housekeeping",
                "reason": f"delete {rows} sessions that were idle for 90 days",
                "riskTags": ["data", "delete"],
            },
        }
    )
    state, message = gate.wait(request)
    if state != "Released":
        say(f"left everything as it is: {message}")
        return ENDS[state]
    print(f"deleted {rows} sessions")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:3]))
    except NotOurs as error:
        say(str(error))
        sys.exit(6)
