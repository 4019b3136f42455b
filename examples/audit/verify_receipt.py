#!/usr/bin/env python3
"""Checks a receipt, written from docs/receipts.md alone.

    verify_receipt.py RECEIPT KEYS [JOB_UID]

Needs Python 3.9 and the package `cryptography`. Prints the constraints and ends with 0, or says why the receipt does not hold and
ends with 1.
"""

import base64
import datetime
import hashlib
import json
import re
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Refused(Exception):
    pass


def read_keys(path):
    """The public keys of a file; the name of each is checked."""
    keys = []
    for line in open(path, encoding="utf-8"):
        if line.strip() and not line.startswith("#"):
            name, encoded = line.split()
            public = base64.b64decode(encoded, validate=True)
            if hashlib.sha256(public).hexdigest()[:16] != name:
                sys.exit(f"{path}: {name} is not the name of this key")
            keys.append(Ed25519PublicKey.from_public_bytes(public))
    return keys


def signed_by(key, signature, message):
    try:
        key.verify(base64.b64decode(signature, validate=True), message)
        return True
    except (InvalidSignature, ValueError):
        return False


def payload_of(envelope, keys):
    """The payload of a DSSE envelope that one of the keys signed."""
    kind, payload = envelope["payloadType"], base64.b64decode(envelope["payload"], validate=True)
    length = len(kind.encode())
    message = f"DSSEv1 {length} {kind} {len(payload)} ".encode() + payload
    if not any(signed_by(key, s["sig"], message) for s in envelope["signatures"] for key in keys):
        raise Refused("no trusted key signed it")
    if kind != "application/vnd.in-toto+json":
        raise Refused("it is no in-toto statement")
    return payload


def instant(text):
    """A time, to the microsecond."""
    return datetime.datetime.fromisoformat(re.sub(r"(\.\d{1,6})\d*", lambda m: m[1].ljust(7, "0"), text).replace("Z", "+00:00"))


def verify(text, keys, job_uid, now):
    """The predicate of a receipt that holds."""
    if not text.strip():
        raise Refused("there is no receipt")
    try:
        statement = json.loads(payload_of(json.loads(text), keys))
        if statement["_type"] != "https://in-toto.io/Statement/v1":
            raise Refused("it is no in-toto statement")
        if statement["predicateType"] != "https://countersign.dev/receipt/v1":
            raise Refused("it is no receipt")
        [subject] = statement["subject"]
        predicate = statement["predicate"]
        if not re.fullmatch("[0-9a-f]{64}", subject["digest"]["sha256"]):
            raise Refused("its subject has no SHA-256")
        if job_uid is not None and predicate["job"]["uid"] != job_uid:
            raise Refused(f"it is for the Job {predicate['job']['uid']}")
        if "validUntil" in predicate and now > instant(predicate["validUntil"]):
            raise Refused(f"it was valid until {predicate['validUntil']}")
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"it cannot be read: {error!r}") from error
    return predicate


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    keys = read_keys(sys.argv[2])
    job_uid = sys.argv[3] if len(sys.argv) == 4 else None
    with open(sys.argv[1], encoding="utf-8") as receipt:
        text = receipt.read()
    try:
        predicate = verify(text, keys, job_uid, datetime.datetime.now(datetime.timezone.utc))
    except Refused as refused:
        sys.exit(f"NOT VALID: {refused}")
    print(json.dumps(predicate["constraints"], separators=(",", ":"), sort_keys=True, ensure_ascii=False))


if __name__ == "__main__":
    main()
