#!/usr/bin/env python3
"""Makes accepted.json and rejected.json from src/envelope/FORMAT.md alone, without a line of keyward.

Needs the PyPI package `cryptography`. Deterministic: every key and nonce is a hash of its name.
    python3 generate.py          prints the differences to the files beside it, and fails if there are any
    python3 generate.py --write  writes them
"""

import base64
import hashlib
import hmac
import json
import pathlib
import sys

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

LABELS = {1: b"keyward/v1/field", 4: b"keyward/v1/partition", 5: b"keyward/v1/caller", 6: b"keyward/v1/system"}
CLASS_NAMES = {1: "Field", 2: "Deterministic", 3: "Object", 4: "Partition", 5: "Caller", 6: "System"}
SUITE_NAMES = {1: "Xaes", 2: "XaesCommitted"}


def named(name, length):
    return hashlib.sha256(name.encode()).digest()[:length]


def subkey(data_key, label):
    return HKDFExpand(hashes.SHA256(), 32, label).derive(data_key)


def xaes(key, nonce):
    def block(data):
        encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        return encryptor.update(data) + encryptor.finalize()

    l = int.from_bytes(block(bytes(16)), "big")
    k1 = ((l << 1) & ((1 << 128) - 1)) ^ (0x87 if l >> 127 else 0)

    def half(counter):
        message = int.from_bytes(bytes([0, counter]) + b"X\0" + nonce[:12], "big")
        return block((message ^ k1).to_bytes(16, "big"))

    return AESGCM(half(1) + half(2)), nonce[12:]


def header_of(version, suite, cls, flags=0, fmt=1):
    return bytes([fmt]) + version + bytes([suite, cls, flags])


def aad_of(header, pairs, label=b"keyward/aad/v1"):
    keys = [key.encode() for key, _ in pairs]
    assert keys == sorted(set(keys))
    out = label + b"\0" + header + len(pairs).to_bytes(2, "big")
    for key, value in pairs:
        key, value = key.encode(), value.encode()
        out += len(key).to_bytes(2, "big") + key + len(value).to_bytes(4, "big") + value
    return out


def commitment_of(data_key, cls, header, nonce, aad):
    key = subkey(data_key, LABELS[cls] + b"/commit")
    message = b"keyward/commit/v1" + header + nonce + hashlib.sha256(aad).digest()
    return hmac.new(key, message, "sha256").digest()


def seal(data_key, header, nonce, aad, plaintext, suite=None, cls=None):
    suite, cls = suite or header[9], cls or header[10]
    cipher, gcm_nonce = xaes(subkey(data_key, LABELS[cls]), nonce)
    sealed = cipher.encrypt(gcm_nonce, plaintext, aad)
    commitment = commitment_of(data_key, cls, header, nonce, aad) if suite == 2 else b""
    return header + nonce + commitment + sealed


def open_value(data_key, value, pairs):
    header, nonce, rest = value[:12], value[12:36], value[36:]
    aad = aad_of(header, pairs)
    if header[9] == 2:
        assert rest[:32] == commitment_of(data_key, header[10], header, nonce, aad)
        rest = rest[32:]
    cipher, gcm_nonce = xaes(subkey(data_key, LABELS[header[10]]), nonce)
    return cipher.decrypt(gcm_nonce, rest, aad)


def text(value):
    return "kw1." + base64.urlsafe_b64encode(value).decode().rstrip("=")


KEYRING = ["kw.keyring", "default/patients"]
FIELD = [KEYRING, ["path", "Patient.identifier[0].value"], ["patient", "Patient/42"]]
DOCUMENT = [
    ["kw.keyring", "clinic-north/records"],
    ["path", "Coverage.extension[1](http://example.org/ext).valueString"],
    ["resource", "ExplanationOfBenefit/7#Coverage/coverage"],
]
VERSION = named("version", 8)


def accepted():
    many = [KEYRING] + [[f"p{n:02}", "v" * n] for n in range(63)]
    # key, suite, class, context, plaintext
    cases = {
        "ssn, suite 2": (2, 1, FIELD, b"123456789"),
        "ssn, suite 1": (1, 1, FIELD, b"123456789"),
        "empty plaintext, suite 1": (1, 1, [KEYRING], b""),
        "empty plaintext, suite 2": (2, 1, [KEYRING], b""),
        "one block": (2, 1, [KEYRING], bytes(range(16))),
        "every byte value": (2, 1, FIELD, bytes(range(256))),
        "a longer text": (1, 1, FIELD, b"The quick brown fox. " * 100),
        "text of other scripts, not normalised": (2, 1, [KEYRING, ["name", "Zoë \u0301e"]], "病歴 ärztlich".encode()),
        "empty context value": (2, 1, [KEYRING, ["patient", ""]], b"x"),
        "64 context pairs": (2, 1, many, b"x"),
        "context keys sorted by bytes": (2, 1, [["Z", "1"], ["a", "2"], KEYRING, ["é", "3"]], b"x"),
        "value of a document": (2, 1, DOCUMENT, b"K0012345"),
        "partition key": (2, 4, [KEYRING, ["patient", "Patient/42"]], named("partition key", 32)),
        "caller's data key": (2, 5, [KEYRING], named("caller's key", 32)),
        "system value": (2, 6, [["owner", "kw.store"]], b"keyward's own"),
    }
    out = []
    for name, (suite, cls, pairs, plaintext) in cases.items():
        data_key, nonce = named("key of " + name, 32), named("nonce of " + name, 24)
        header = header_of(VERSION, suite, cls)
        aad = aad_of(header, pairs)
        value = seal(data_key, header, nonce, aad, plaintext)
        assert open_value(data_key, value, pairs) == plaintext
        out.append({
            "name": name, "data_key": data_key.hex(), "version": VERSION.hex(), "suite": suite, "class": cls,
            "nonce": nonce.hex(), "context": pairs, "plaintext": plaintext.hex(), "aad": aad.hex(),
            "sealed": text(value),
        })
    return out


def flip(value, at, bit=1):
    return value[:at] + bytes([value[at] ^ bit]) + value[at + 1:]


def rejected():
    key, nonce = named("key of the rejected", 32), named("nonce of the rejected", 24)
    other_key, other_version = named("another key", 32), named("another version", 8)
    plaintext = b"123456789"

    def value(suite=2, cls=1, version=VERSION, pairs=FIELD, data_key=key):
        header = header_of(version, suite, cls)
        return seal(data_key, header, nonce, aad_of(header, pairs), plaintext)

    def with_header(**changes):
        fields = {"version": VERSION, "suite": 2, "cls": 1, **changes}
        header = header_of(**fields)
        return seal(key, header, nonce, aad_of(header, FIELD), plaintext, suite=2, cls=1)

    good, plain = value(), value(suite=1)
    head2 = header_of(VERSION, 2, 1)
    aad2 = aad_of(head2, FIELD)
    out = []

    def reject(name, clause, reason, sealed, suite=2, cls=1, pairs=FIELD, data_key=key):
        sealed = sealed if isinstance(sealed, str) else text(sealed)
        out.append({
            "name": name, "clause": clause, "reason": reason, "data_key": data_key.hex(), "suite": suite,
            "class": cls, "nonce": nonce.hex(), "context": pairs, "plaintext": plaintext.hex(), "sealed": sealed,
        })

    # --- text
    encoded = text(good)
    assert len(encoded) % 4 == 0 and len(text(plain)) == 4 + 82
    reject("no prefix", "ENV-11", "Prefix", encoded[4:])
    reject("prefix in upper case", "ENV-11", "Prefix", "KW" + encoded[2:])
    reject("prefix of another version", "ENV-11", "Prefix", "kw2" + encoded[3:])
    reject("white space before", "ENV-11", "Prefix", " " + encoded)
    reject("line end after", "ENV-11", "Base64", encoded + "\n")
    reject("line end within", "ENV-11", "Base64", encoded[:64] + "\n" + encoded[64:])
    reject("padding", "ENV-11", "Base64", text(plain) + "==", suite=1)
    reject("one character too many", "ENV-11", "Base64", encoded + "A")
    odd = text(plain)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    reject("unused bits that are not zero", "ENV-10", "Base64", odd[:-1] + alphabet[alphabet.index(odd[-1]) + 1], suite=1)
    assert "-" in encoded or "_" in encoded
    reject("the other alphabet", "ENV-11", "Base64", encoded.replace("-", "+").replace("_", "/"))
    reject("a character outside ASCII", "ENV-11", "Base64", encoded[:-2] + "é")
    # --- lengths
    reject("nothing", "ENV-9", "TooShort", b"")
    reject("eleven bytes", "ENV-9", "TooShort", good[:11])
    reject("the header alone", "ENV-9", "TooShort", good[:12])
    reject("one byte less than suite 2 needs", "ENV-9", "TooShort", good[:83])
    reject("one byte less than suite 1 needs", "ENV-9", "TooShort", plain[:51], suite=1)
    # --- header
    for fmt in (0, 2, 255):
        reject(f"format version {fmt}", "ENV-2", f"Version({fmt})", with_header(fmt=fmt))
    for suite in (3, 4, 5):
        reject(f"reserved suite {suite}", "ENV-4", f"SuiteReserved({suite})", with_header(suite=suite))
    for suite in (0, 6, 255):
        reject(f"suite {suite}", "ENV-4", f"Suite({suite})", with_header(suite=suite))
    for cls in (0, 7, 255):
        reject(f"class {cls}", "ENV-5", f"Class({cls})", with_header(cls=cls))
    for suite, cls in ((1, 2), (1, 3), (1, 4), (1, 5), (1, 6), (2, 2), (2, 3)):
        reason = f"SuiteOfClass({SUITE_NAMES[suite]}, {CLASS_NAMES[cls]})"
        reject(f"suite {suite} for class {cls}", "ENV-6", reason, with_header(suite=suite, cls=cls))
    for flags in (1, 128, 255):
        reject(f"flags {flags}", "ENV-7", f"Flags({flags})", with_header(flags=flags))
    # --- another suite or class than the opener's
    reject("suite 1 under a key version of suite 2", "ENV-8", "UnexpectedSuite(Xaes)", plain)
    reject("suite 2 under a key version of suite 1", "ENV-8", "UnexpectedSuite(XaesCommitted)", good, suite=1)
    for cls in (4, 5, 6):
        reason = f"UnexpectedClass({CLASS_NAMES[cls]})"
        reject(f"class {cls} opened as a field", "ENV-14", reason, value(cls=cls))
    # --- well-formed, but it does not open
    no = "CannotOpen"
    for suite, sealed in ((2, good), (1, plain)):
        body = 68 if suite == 2 else 36
        reject(f"suite {suite}: another data key", "ENV-19", no, sealed, suite=suite, data_key=other_key)
        reject(f"suite {suite}: the id of another version", "ENV-3", no, sealed[:1] + other_version + sealed[9:], suite=suite)
        reject(f"suite {suite}: first bit of the nonce", "ENV-16", no, flip(sealed, 12, 128), suite=suite)
        reject(f"suite {suite}: last bit of the nonce", "ENV-16", no, flip(sealed, 35), suite=suite)
        reject(f"suite {suite}: a bit of the ciphertext", "ENV-16", no, flip(sealed, body), suite=suite)
        reject(f"suite {suite}: the last bit of the tag", "ENV-16", no, flip(sealed, len(sealed) - 1), suite=suite)
        reject(f"suite {suite}: one byte cut off", "ENV-16", no, sealed[:-1], suite=suite)
        reject(f"suite {suite}: one byte added", "ENV-1", no, sealed + b"\0", suite=suite)
        moved = [KEYRING, FIELD[1], ["patient", "Patient/43"]]
        reject(f"suite {suite}: another patient", "ENV-23", no, sealed, suite=suite, pairs=moved)
        reject(f"suite {suite}: a pair missing", "ENV-23", no, sealed, suite=suite, pairs=FIELD[:2])
        more = FIELD + [["purpose", "treatment"]]
        reject(f"suite {suite}: a pair more", "ENV-23", no, sealed, suite=suite, pairs=more)
        foreign = [["kw.keyring", "default/Patients"]] + FIELD[1:]
        reject(f"suite {suite}: another keyring", "ENV-22", no, sealed, suite=suite, pairs=foreign)
        shifted = [KEYRING, FIELD[1], ["patientP", "atient/42"]]
        aad = aad_of(sealed[:12], FIELD)
        assert b"".join(k.encode() + v.encode() for k, v in shifted) == b"".join(k.encode() + v.encode() for k, v in FIELD)
        reject(f"suite {suite}: a byte moved from a value to its key", "ENV-24", no, sealed, suite=suite, pairs=shifted)
        decomposed = [KEYRING, ["name", "Zoe\u0308"]]
        composed = seal(key, sealed[:12], nonce, aad_of(sealed[:12], [KEYRING, ["name", "Zoë"]]), plaintext)
        reject(f"suite {suite}: context normalised otherwise", "ENV-21", no, composed, suite=suite, pairs=decomposed)
        for label in (b"keyward/cache/v1", b"keyward/aad/v2"):
            foreign = seal(key, sealed[:12], nonce, aad_of(sealed[:12], FIELD, label), plaintext)
            reject(f"suite {suite}: context under {label.decode()}", "ENV-20", no, foreign, suite=suite)
        bare = seal(key, sealed[:12], nonce, aad_of(b"", FIELD), plaintext)
        reject(f"suite {suite}: context without the header", "ENV-20", no, bare, suite=suite)
        system = seal(key, sealed[:12], nonce, aad, plaintext, cls=6)
        reject(f"suite {suite}: sealed under the subkeys of another class", "ENV-13", no, system, suite=suite)
        stale = flip(flip(sealed, 34), 12)
        reject(f"suite {suite}: nonce bits in both halves", "ENV-15", no, stale, suite=suite)
    reject("first bit of the commitment", "ENV-17", no, flip(good, 36, 128))
    reject("last bit of the commitment", "ENV-18", no, flip(good, 67))
    forged = good[:36] + commitment_of(other_key, 1, head2, nonce, aad2) + good[68:]
    reject("the commitment of another key", "ENV-17", no, forged)
    under_other = seal(other_key, head2, nonce, aad2, plaintext)
    reject("the right commitment over another key's ciphertext", "ENV-17", no, good[:68] + under_other[68:])
    no_context = hmac.new(subkey(key, LABELS[1] + b"/commit"), b"keyward/commit/v1" + head2 + nonce, "sha256").digest()
    reject("a commitment without the context", "ENV-17", no, good[:36] + no_context + good[68:])
    with_message_key = hmac.new(
        subkey(key, LABELS[1]), b"keyward/commit/v1" + head2 + nonce + hashlib.sha256(aad2).digest(), "sha256"
    ).digest()
    reject("a commitment under the message key", "ENV-13", no, good[:36] + with_message_key + good[68:])
    stripped = header_of(VERSION, 1, 1) + good[12:36] + good[68:]
    reject("the commitment stripped and the suite renumbered", "ENV-8", no, stripped, suite=1)
    return out


def main():
    here = pathlib.Path(__file__).parent
    same = True
    for name, vectors in (("accepted.json", accepted()), ("rejected.json", rejected())):
        made = json.dumps(vectors, indent=1, ensure_ascii=True) + "\n"
        if "--write" in sys.argv:
            (here / name).write_text(made)
        elif (here / name).read_text() != made:
            print(f"{name} differs from what FORMAT.md gives")
            same = False
    sys.exit(0 if same else 1)


main()
