#!/usr/bin/env python3
"""Writes the seeds of fuzz/corpus: small inputs that reach every branch worth starting from. Run from fuzz/."""
import base64, hashlib, json, pathlib, struct

OUT = pathlib.Path("corpus")


def put(target, name, content):
    folder = OUT / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def envelopes():
    vectors = pathlib.Path("../tests/data/vectors/envelope")
    for kind in ("accepted", "rejected"):
        for number, vector in enumerate(json.loads((vectors / f"{kind}.json").read_text())):
            for field in ("text", "value", "binary", "sealed"):
                if isinstance(vector.get(field), str) and len(vector[field]) < 600:
                    put("envelope", f"{kind}-{number:02}-{field}", vector[field])
    for suite in (1, 2):
        value = bytes([1]) + bytes(range(8)) + bytes([suite, 1, 0]) + bytes(24 + 16 + 32 * (suite == 2)) + b"nine byte"
        put("envelope", f"binary-suite-{suite}", value)
        put("envelope", f"text-suite-{suite}", b"kw1." + base64.urlsafe_b64encode(value).rstrip(b"="))


def wraps():
    for method in (1, 2, 0x0101, 0x0102, 7):
        blob = bytes(12 + 32 + 16)
        wrap = struct.pack(">HB", 1, 7) + b"primary" + struct.pack(">IHH", 1, method, len(blob)) + blob + bytes(16)
        put("wrap", f"method-{method}", wrap)
    put("wrap", "newer", struct.pack(">H", 2) + bytes(40))
    put("wrap", "empty-blob", struct.pack(">HB", 1, 1) + b"a" + struct.pack(">IHH", 1, 1, 0) + bytes(16))


def proofs():
    def text(content):
        return base64.b64encode(content).decode()

    origin = "keyward/fuzz/1"
    ours = hashlib.sha256(origin.encode() + b"\n\x01" + bytes([7]) * 32).digest()[:4]
    note = f"{origin}\n3\n{text(bytes(32))}\n\n\u2014 {origin} {text(ours + bytes(64))}\n"
    record = '{"actor":{"kind":"sidecar"},"clock":"held","event":"log.opened","index":1,"outcome":"done","schema":1,' \
             '"source":"internal","time":9}'
    path = "".join(text(bytes([n]) * 32) + "\n" for n in range(2))
    head = f"c2sp.org/tlog-proof@v1\nextra {text(record.encode())}\nindex 1\n"
    put("proof", "proof", f"{head}{path}\n{note}")
    put("proof", "proof-without-path", f"{head}\n{note}")
    put("proof", "note", note)
    put("proof", "note-two-signatures", note + f"\u2014 {origin} {text(bytes(68))}\n")
    key = lambda n: f"{origin}+{hashlib.sha256(origin.encode() + bytes([10, 1]) + bytes([n]) * 32).digest()[:4].hex()}+" \
                    f"{text(bytes([1]) + bytes([n]) * 32)}\n"
    put("proof", "keys", key(7) + key(8))
    witness = lambda n: f"w{n}+{hashlib.sha256(f'w{n}'.encode() + bytes([10, 4]) + bytes([n]) * 32).digest()[:4].hex()}+" \
                        f"{text(bytes([4]) + bytes([n]) * 32)}"
    put("proof", "witness-key", witness(1))
    put("proof", "witness-policy", f"# two\nlog {key(7)}witness a {witness(1)} https://a/\nwitness b {witness(2)}\n"
                                   "group g 1 a b\ngroup h all g\nquorum h\n")
    put("proof", "witness-request", f"old 2\n{path}\n{note}")


def ssh():
    def string(content):
        return struct.pack(">I", len(content)) + content

    def natural(size):
        return string(b"\x7f" + bytes([1] * (size - 1)))

    # What the type's key consists of, its signature, and what follows that.
    kinds = {
        "ssh-ed25519": (string(bytes(32)), "ssh-ed25519", bytes(64), b""),
        "ecdsa-sha2-nistp256": (string(b"nistp256") + string(b"\4" + bytes(64)), None, natural(32) * 2, b""),
        "ecdsa-sha2-nistp384": (string(b"nistp384") + string(b"\4" + bytes(96)), None, natural(48) * 2, b""),
        "ssh-rsa": (natural(3) + natural(256), "rsa-sha2-512", bytes(256), b""),
        "sk-ssh-ed25519@openssh.com": (string(bytes(32)) + string(b"ssh:"), None, bytes(64), b"\5" + bytes(4)),
        "sk-ecdsa-sha2-nistp256@openssh.com": (
            string(b"nistp256") + string(b"\4" + bytes(64)) + string(b"ssh:"), None, natural(32) * 2, b"\1" + bytes(4)),
    }
    for name, (public, signer, made, after) in kinds.items():
        key = string(name.encode()) + public
        short = name.removesuffix("@openssh.com")
        put("ssh", f"key-{short}", key)
        put("ssh", f"line-{short}", name.encode() + b" " + base64.b64encode(key) + b" somebody")
        signature = string((signer or name).encode()) + string(made) + after
        blob = b"SSHSIG" + struct.pack(">I", 1) + string(key) + string(b"namespace") + string(b"") + string(b"sha512")
        put("ssh", f"signature-{short}", blob + string(signature))
        text = base64.b64encode(blob + string(signature)).decode()
        put("ssh", f"armoured-{short}", f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n")
    put("ssh", "other-kind", b"ssh-dss AAAAB3NzaC1kc3M=")


# Well-formed, and opened by nobody.
SEALED = "kw1." + base64.urlsafe_b64encode(bytes([1] + [7] * 8 + [1, 1, 0]) + bytes(24 + 3 + 16)).rstrip(b"=").decode()


def requests():
    bodies = {
        "seal-one": '{"context":{"patient":"1"},"text":"a"}',
        "seal-bytes": '{"bytes":"AAE=","context":{}}',
        "seal-many": '{"items":[{"text":"a","context":{"f":"x"}},{"bytes":"AA=="}],"context":{"patient":"1"}}',
        "seal-escapes": '{"text":"\\u00e9\\ud83d\\ude00\\n\\"\\\\\\/","context":{"\\u0061":"b"}}',
        "seal-bad-items": '{"items":[{},{"text":"a","bytes":"AA=="},{"bytes":"AB=="},{"text":"x","context":{"kw.a":"y"}}]}',
        "open-one": '{"sealed":"%s","context":{"patient":"1"},"purpose":"TREAT"}' % SEALED,
        "open-many": '{"items":[{"sealed":"%s","context":{"f":"x"},"as":"bytes"},{"sealed":"kw1.AA","context":{}}],"purpose":"BTG"}' % SEALED,
        "rewrap-one": '{"sealed":"%s","context":{"patient":"1"},"new_context":{"patient":"2"}}' % SEALED,
        "rewrap-many": '{"items":[{"sealed":"%s","context":{"f":"x"},"new_context":{"f":"y"}},{"sealed":"kw1.AA","new_context":{"f":"z"}}],"context":{"p":"1"},"new_context":{"p":"2"},"purpose":"HDM"}' % SEALED,
        "create": '{"name":"acme/patients","required_context":["patient"],"subject_key":"patient","suite":2}',
        "query": "from=0&limit=10",
        "duplicate": '{"text":"a","text":"b"}',
        "unknown": '{"txet":"a"}',
        "lone-surrogate": '{"text":"\\ud800"}',
        "control": '{"text":"a\tb"}',
        "deep": '{"items":' + "[" * 40 + "]" * 40 + "}",
        "number": '{"text":1E400}',
        "cut": '{"context":{"patient":"1"},"te',
        "trailing": '{"text":"a"} x',
        "empty-object": "{}",
        "bom": "\ufeff{}",
        "latin1": b'{"text":"\xe9"}',
    }
    for name, body in bodies.items():
        put("wire", name + ".json", body)


def documents():
    patient = {
        "resourceType": "Patient", "id": "p1", "birthDate": "1970-01-01",
        "name": [{"family": "O'Keefe", "given": ["Ann", "B"]}],
        "identifier": [{"type": {"coding": [{"code": "MR"}]}, "system": "urn:x", "value": "123"}],
        "telecom": [{"system": "phone", "value": "555"}],
        "address": [{"line": ["1 Main"], "city": "X", "postalCode": "12345"}],
        "extension": [{"url": "http://x/y", "valueString": "z"}, {"url": "http://x/y", "extension": [{"url": "a", "valueDecimal": 1.10}]}],
        "contained": [{"resourceType": "Coverage", "id": "c", "subscriberId": "9"}],
        "text": {"status": "generated", "div": "<div>Ann</div>"},
    }
    observation = {"resourceType": "Observation", "id": "o", "subject": {"reference": "Patient/p1", "display": "Ann"}, "note": [{"text": "n"}]}
    bundle = {"resourceType": "Bundle", "entry": [{"fullUrl": "urn:uuid:1", "resource": patient}, {"resource": observation}]}
    put("fields", "patient.json", json.dumps(patient))
    put("fields", "patient-indented.json", json.dumps(patient, indent=2).replace("\n", "\r\n"))
    put("fields", "bundle.json", json.dumps(bundle, separators=(",", ":")))
    put("fields", "lines.ndjson", json.dumps(patient) + "\n\n" + json.dumps(observation) + "\r\n")
    for name, text in {
        "numbers": '{"resourceType":"Patient","id":"a","x":[1.10,1E2,-0,1234567890123456789012345678901234567890],"name":[{"family":"A"}]}',
        "escapes": '{"resourceType":"Patient","id":"a","name":[{"family":"\\ud800\\u0041\\/\\"","given":["\\n"]}]}',
        "escaped-names": '{"resourceTyp\\u0065":"Patient","id":"a","n\\u0061me":[{"family":"A"}]}',
        "sealed": '{"resourceType":"Patient","id":"a","name":[{"family":"kw1.AAAA"}]}',
        "no-id": '{"resourceType":"Patient","name":[{"family":"A"}]}',
        "duplicate": '{"resourceType":"Patient","id":"a","id":"b"}',
        "nested-bundle": '{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Bundle","entry":[]}}]}',
        "misplaced": '{"resourceType":"Patient","id":"a","x":{"resourceType":"Patient","id":"b","name":[{"family":"A"}]}}',
        "deep": "[" * 130 + "]" * 130,
        "unknown-type": '{"resourceType":"Nonsense","id":"a","name":"A"}',
        "cut": '{"resourceType":"Patient","id":"a","name":[{"fam',
    }.items():
        put("fields", name + ".json", text)


def logs():
    base = {"clock": "unverified", "outcome": "done", "schema": 1, "source": "internal", "actor": {"kind": "sidecar"}}
    person = {"kind": "service", "name": "portal", "proof": "peer", "uid": 1000}

    def lines(*records):
        texts = []
        for index, record in enumerate(records):
            whole = {**base, **record, "index": index, "time": 1795000000000000 + index}
            texts.append(json.dumps(whole, sort_keys=True, separators=(",", ":")))
        return "\n".join(texts)

    opened = {
        "actor": person, "event": "data.opened", "source": "data-socket", "purpose": "TREAT", "request": "req-1",
        "groups": [{"done": 3, "failed": {"bad_value": 1}, "keyring": "default/patients", "version": "07" * 8}],
        "orphans": {"unknown_key": 1}, "subjects": ["01" * 16, "02" * 16], "items_digest": "03" * 32, "policy": "04" * 32,
        "reason": "partly_failed", "facts": {"kek": "primary", "kek_model": 'Model "X" \\ 2'},
    }
    created = {"event": "key.created", "source": "control-socket", "actor": person}
    put("wal", "started.jsonl", lines({"event": "log.opened"}, {"event": "sidecar.started"}, {"event": "log.heartbeat"}))
    put("wal", "opened.jsonl", lines(opened))
    put("wal", "intent.jsonl", lines({**created, "outcome": "intent"}, {**created, "intent": 0}))
    put("wal", "parts.jsonl", lines({**opened, "part": 1, "parts": 2}, {**opened, "part": 2, "parts": 2}))
    summary = {"event": "data.denied_summary", "outcome": "denied", "denials": [{"actor": "portal", "count": 3, "reason": "no_permit"}]}
    put("wal", "summary.jsonl", lines(summary))
    put("wal", "unsorted.jsonl", '{"schema":1,"index":0}')
    put("wal", "newer.jsonl", '{"schema":2,"sparkle":1}')
    put("wal", "short", b"KWL1\x01")
    put("wal", "zeros", bytes(200))


def custody():
    """What people signed, as it is kept, and what is near to it."""
    kept = {path.name: path.read_text() for path in pathlib.Path("../tests/data/vectors/custody").iterdir()}
    for name, text in kept.items():
        put("custody", name, text)
    roster, proposal = kept["roster.json"], kept["proposal.json"]
    put("custody", "first-roster.json", json.loads(kept["export.json"])["rosters"][0])
    put("custody", "newer.json", proposal.replace('"schema":1', '"schema":2'))
    put("custody", "spaced.json", proposal.replace(",", ", "))
    put("custody", "unsorted.json", json.dumps(dict(reversed(json.loads(roster).items())), separators=(",", ":")))
    put("custody", "nobody.json", json.dumps({**json.loads(roster), "members": []}, sort_keys=True, separators=(",", ":")))
    for word in ("propose", "deny", "withdraw", "review"):
        put("custody", f"decision-{word}.txt", kept["decision.txt"].replace("approve", word))
    put("custody", "separation-small.toml", """schema = 1
[person.ann]
roles = ["custodian", "key-administrator"]
group = "a"
manager = "max"
[person.bea]
roles = ["custodian"]
group = "b"
[person.cid]
roles = ["custodian"]
group = "c"
[person.max]
roles = []
[person.pat]
roles = ["custodian"]
group = "a"
[tier.3]
approvals = 2
cool_off = "25h"
[break-glass]
approvals = 0
use_for = "15m"
[[conflict]]
roles = ["reviewer", "key-administrator"]
""")


def edits():
    """Edits of minutes (first byte 0), of an export (1) and of both (2): where, how many bytes go, how many come, those."""
    minutes = pathlib.Path("../tests/data/vectors/custody/minutes.json").read_text()
    export = pathlib.Path("../tests/data/vectors/custody/export.json").read_text()

    def edit(which, text, old, new):
        return bytes([which]) + struct.pack(">HHB", text.index(old), len(old), len(new)) + new.encode()

    for which in (0, 1, 2):
        put("minutes", f"none-{which}", bytes([which]))
    for number, (old, new) in enumerate([
        ("alice", "carol"), ("executed", "denied"), ('"have":2', '"have":3'), ("schedule", "destroy"), ('"log":', '"lob":'),
        ('"consistency":[]', '"consistency":["' + "0" * 64 + '"]'), ('"n\\":\\"0', '"n\\":\\"1'),
    ]):
        if old in minutes:
            put("minutes", f"minutes-{number}", edit(0, minutes, old, new))
    for number, (old, new) in enumerate([
        ("alice", "carol"), ("production", "development"), ('"genesis":[', '"genesis":[ '), ("approvals = 3", "approvals = 2"),
    ]):
        if old in export:
            put("minutes", f"export-{number}", edit(1, export, old, new))
    put("minutes", "cut", bytes([0]) + struct.pack(">HHB", 4000, 65535, 0))


for make in (envelopes, wraps, proofs, ssh, requests, documents, logs, custody, edits):
    make()
