#!/usr/bin/env python3
"""Checks an export of the audit trail, written from docs/audit.md alone.

    verify.py TRAIL.jsonl KEYS [CHECKPOINT...]

Needs Python 3.9 and the package `cryptography`. Says `whole` and ends with 0, or names the first fault and ends with 1.
"""

import base64
import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def canonical(value):
    """RFC 8785, for what stands in a record: strings, whole numbers, booleans, lists and maps."""
    if isinstance(value, dict):
        items = sorted(value.items(), key=lambda item: item[0].encode("utf-16-be"))
        return "{" + ",".join(canonical(name) + ":" + canonical(item) for name, item in items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, float):
        raise ValueError(f"{value} is no whole number")
    return json.dumps(value, ensure_ascii=False)


def signed_bytes(record):
    signed = {name: value for name, value in record.items() if name != "signature"}
    return canonical({"type": "countersign.dev/record/v1", "record": signed}).encode()


def read_keys(path):
    keys = {}
    for line in open(path, encoding="utf-8"):
        if line.strip() and not line.startswith("#"):
            public = base64.b64decode(line.split()[-1], validate=True)
            keys[name_of(public)] = public
    return keys


def name_of(public):
    return hashlib.sha256(public).hexdigest()[:16]


def named_key(entry):
    """Name and public key that an entry is about; none where it names none."""
    try:
        public = base64.b64decode(entry.get("publicKey", ""), validate=True)
    except ValueError:
        return None, None
    return (name_of(public), public) if len(public) == 32 else (None, None)


def signature_holds(public, message, signature):
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        return True
    except InvalidSignature:
        return False


def read_checkpoint(path, keys):
    """Origin, length and hash of a C2SP checkpoint that one of the keys signed."""
    note = open(path, encoding="utf-8").read()
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    origin, length, head = text.split("\n")[:3]
    for line in signatures.splitlines():
        dash, name, encoded = line.split(" ")
        signature = base64.b64decode(encoded)
        for public in keys.values():
            identity = hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]
            if dash == "\u2014" and name == origin and signature[:4] == identity:
                if signature_holds(public, text.encode(), signature[4:]):
                    return origin, int(length), "sha256:" + base64.b64decode(head).hex()
    raise ValueError(f"{path}: no trusted key signed this checkpoint")


def origin_of(first):
    """The name of the trail whose first record has that hash."""
    return "countersign.dev/audit/" + first[len("sha256:"):][:16]


def anchored(records):
    """The number of the last entry that the trail itself says was pruned."""
    entries = [entry for record in records for entry in record["entries"]]
    return max((entry["pruned"]["through"] for entry in entries if "pruned" in entry), default=0)


def verify(trail, keys, checkpoints):
    """The first fault as a text, or none."""
    records = [json.loads(line) for line in filter(str.strip, open(trail, encoding="utf-8"))]
    length, head, origin, heads, told = 0, "genesis", None, {}, {}
    if records and 1 < records[0]["sequence"] <= anchored(records) + 1:
        length, head = records[0]["sequence"] - 1, records[0]["previous"]
        heads[length] = head
    pruned = length
    live, retired, known = {}, set(), dict(keys)
    beheaded = length > 0
    for number, record in enumerate(records, 1):
        at = f"line {number}: "
        signer, transitions = record["keyID"], [entry["transition"] for entry in record["entries"]]
        if signer in retired:
            return at + "signed by a retired key"
        if signer not in live and signer not in keys:
            return at + "signed by another key"
        if signer not in live and number > 1 and not beheaded and "Anchored" not in transitions:
            return at + "signed by a key that was not introduced"
        public = live.get(signer) or keys[signer]
        message = signed_bytes(record)
        if not signature_holds(public, message, base64.b64decode(record["signature"])):
            return at + "edited"
        if record["sequence"] != length + 1 or record["last"] != length + len(record["entries"]):
            return at + "missing, reordered or twice"
        if record["previous"] != head:
            return at + "forked"
        for entry in record["entries"]:
            if entry["key"] in told and entry["transition"] != "Refused":
                return at + "told twice"
            told[entry["key"]] = number
            if "pruned" in entry:
                before = entry["pruned"]
                if heads.get(before["through"], before["hash"]) != before["hash"]:
                    return at + "rewritten: what it says was pruned is another trail"
                origin = origin or origin_of(before["first"])
                if origin != origin_of(before["first"]):
                    return at + "rewritten: what it says was pruned is another trail"
        live[signer] = public
        for entry in record["entries"]:
            name, key = named_key(entry)
            if entry["transition"] == "Anchored":
                live, beheaded = {signer: public}, False
            elif entry["transition"] == "Pruned" and beheaded:
                beheaded = False
                retired.update(entry["pruned"].get("retired", []))
                live = {name_of(key): key for key in map(base64.b64decode, entry["pruned"]["keys"])}
                known.update(live)
            elif entry["transition"] == "KeyAdded" and key and name not in retired:
                live[name] = known[name] = key
            elif entry["transition"] == "KeyRetired" and key:
                live.pop(name, None)
                retired.add(name)
        length, head = record["last"], "sha256:" + hashlib.sha256(message).hexdigest()
        heads[length] = head
        origin = origin_of(head) if record["sequence"] == 1 else origin
    for path in checkpoints:
        stated_origin, stated, stated_head = read_checkpoint(path, known)
        if origin is not None and stated_origin != origin:
            return "rewritten: the checkpoint is of another trail"
        if stated < pruned:
            continue  # Only an export that has what was pruned can be compared with it.
        if stated > length:
            return f"cut off: a checkpoint knows of entry {stated}"
        if heads.get(stated) != stated_head:
            return f"rewritten: at entry {stated}"
    return None


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    keys = read_keys(sys.argv[2])
    fault = verify(sys.argv[1], keys, sys.argv[3:])
    print(f"NOT WHOLE: {fault}" if fault else "whole")
    sys.exit(1 if fault else 0)


if __name__ == "__main__":
    main()
