#!/usr/bin/env python3
"""Verifies a log that `keyward audit export` wrote, with nothing but Python's standard library.

    python3 verify.py DIR --key FILE [--since CHECKPOINT] [--witness-policy FILE]

Written from src/audit/FORMAT.md, whose clauses it names, and from the standards that it cites; it shares no code with
keyward. It says first what is wrong: `LOG-n record i: why`, and ends with status 1. FILE holds a verifier key of the log
as you keep it elsewhere (checkpoint.pub as `keyward init` printed it); CHECKPOINT is one that you kept; a witness policy (C2SP
tlog-policy) says who must have cosigned.
"""
import argparse
import base64
import binascii
import hashlib
import json
import os
import struct
import sys

WIDTH = 256


class Finding(Exception):
    def __init__(self, clause, record, why):
        super().__init__(f"{clause} record {record}: {why}")


# --- Ed25519, RFC 8032, section 5.1.7

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def add(a, b):
    """Points in extended coordinates (RFC 8032, section 5.1.4)."""
    x = (a[1] - a[0]) * (b[1] - b[0]) % P
    y = (a[1] + a[0]) * (b[1] + b[0]) % P
    t, z = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = y - x, z - t, z + t, y + x
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point, scalar = add(point, point), scalar >> 1
    return result


def recover_x(y, sign):
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    return P - x if x & 1 != sign else x


def point(encoded):
    number = int.from_bytes(encoded, "little")
    y, sign = number & ((1 << 255) - 1), number >> 255
    x = recover_x(y, sign) if y < P else None
    return None if x is None else (x, y, 1, x * y % P)


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE = (recover_x(BASE_Y, 0), BASE_Y, 1, recover_x(BASE_Y, 0) * BASE_Y % P)


def ed25519_verifies(public, message, signature):
    if len(public) != 32 or len(signature) != 64:
        return False
    a, r, s = point(public), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    digest = hashlib.sha512(signature[:32] + public + message).digest()
    left, right = multiply(s, BASE), add(r, multiply(int.from_bytes(digest, "little") % L, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# --- keys and checkpoints: LOG-14, LOG-15, LOG-32

def decoded(text):
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode() == text else None


def key_id(origin, public, kind=1):
    return hashlib.sha256(origin.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def verifier_key(line, kind=1):
    fields = line.strip().split("+", 2)
    raw = decoded(fields[2]) if len(fields) == 3 else None
    if raw is None or len(raw) != 33 or raw[0] != kind or fields[1] != key_id(fields[0], raw[1:], kind).hex():
        return None
    return fields[0], raw[1:]


def opened(note, key):
    """Size and root, where the key signed the note; None where it did not."""
    origin, public = key
    text, blank, signatures = note.partition("\n\n")
    lines = text.split("\n")
    if not blank or len(lines) != 3 or not signatures.endswith("\n"):
        raise Finding("LOG-14", 0, "it is not a checkpoint")
    if lines[0] != origin:
        raise Finding("LOG-14", 0, "it names another log")
    root = decoded(lines[2])
    if not lines[1].isdecimal() or not lines[1].isascii() or str(int(lines[1])) != lines[1] or root is None or len(root) != 32:
        raise Finding("LOG-14", 0, "it is not a checkpoint")
    signed = None
    for line in signatures[:-1].split("\n"):
        name, space, value = line.removeprefix("\u2014 ").partition(" ")
        raw = decoded(value)
        if not line.startswith("\u2014 ") or not space or raw is None or len(raw) < 4:
            raise Finding("LOG-14", 0, "it is not a checkpoint")
        if name == origin and raw[:4] == key_id(origin, public):
            if not ed25519_verifies(public, (text + "\n").encode(), raw[4:]):
                raise Finding("LOG-14", 0, "the signature is wrong")
            signed = int(lines[1]), root
    return signed


def opened_by_any(note, keys, clause="LOG-14"):
    for key in reversed(keys):
        found = opened(note, key)
        if found:
            return found
    raise Finding(clause, 0, "the log's key has not signed it")


def follow(notes, keys):
    """Requires each note to be signed by the key whose turn it is; gives its place, and where each key signed first."""
    turn, both, first = 0, False, []
    for note in notes:
        while True:
            by_next = opened(note, keys[turn + 1]) if turn + 1 < len(keys) else None
            if opened(note, keys[turn]):
                if by_next and not both:
                    both = True
                    first.append(by_next[0])
                break
            if not (by_next and both):
                raise Finding("LOG-32", 0, "its key took over from no key before it")
            turn, both = turn + 1, False
    return turn + both, first


def split_notes(text):
    while text:
        end = text.find("\n\n") + 2
        if end < 2:
            raise Finding("LOG-32", 0, "handovers ends inside a checkpoint")
        while text.startswith("\u2014", end):
            end = text.index("\n", end) + 1
        yield text[:end]
        text = text[end:]


# --- witnesses: LOG-35

def witness_policy(text):
    """The quorum: a function of a note that says who cosigned and whether they are enough (C2SP tlog-policy)."""
    known, keys, quorum = {"none": lambda by: True}, {}, None
    for line in text.split("\n"):
        words = line.split()
        if not words or words[0].startswith("#") or words[0] == "log":
            continue
        if words[0] == "witness" and len(words) in (3, 4) and words[1] not in known:
            key = verifier_key(words[2], 4)
            if key is None or key in keys.values():
                raise Finding("LOG-35", 0, f"{words[1]} has no key of a witness")
            keys[words[1]] = key
            known[words[1]] = lambda by, name=words[1]: name in by
        elif words[0] == "group" and len(words) > 3 and words[1] not in known and set(words[3:]) <= set(known) - {"none"}:
            least = {"all": len(words) - 3, "any": 1}.get(words[2]) or int(words[2])
            members = [known[name] for name in words[3:]]
            known[words[1]] = lambda by, members=members, least=least: sum(one(by) for one in members) >= least
        elif words[0] == "quorum" and len(words) == 2 and words[1] in known and quorum is None:
            quorum = known[words[1]]
        else:
            raise Finding("LOG-35", 0, f"this is no line of a policy: {line}")
    if quorum is None:
        raise Finding("LOG-35", 0, "the policy has no quorum")

    def cosigned(note):
        by = {name for name, key in keys.items() if cosigned_by(note, key)}
        return sorted(by), quorum(by)
    return cosigned


def cosigned_by(note, key):
    name, public = key
    text, _, signatures = note.partition("\n\n")
    found = False
    for line in signatures.split("\n")[:-1]:
        who, _, value = line.removeprefix("\u2014 ").partition(" ")
        raw = decoded(value) or b""
        if who != name or raw[:4] != key_id(name, public, 4):
            continue
        time = int.from_bytes(raw[4:12], "big")
        if time == 0 or not ed25519_verifies(public, f"cosignature/v1\ntime {time}\n{text}\n".encode(), raw[12:]):
            return False
        found = True
    return found


# --- tiles: LOG-27, LOG-28, LOG-29

def tile_path(directory, kind, index, width):
    steps = [f"{index % 1000:03}" + (f".p/{width}" if width < WIDTH else "")]
    while index >= 1000:
        index //= 1000
        steps.insert(0, f"x{index % 1000:03}")
    return os.path.join(directory, "tile", kind, *steps)


def read_tile(directory, kind, index, width, record):
    """The bytes, and whether they are those of the full tile at the place of a partial one."""
    for have in (width, WIDTH):
        try:
            with open(tile_path(directory, kind, index, have), "rb") as file:
                return file.read(), have != width
        except FileNotFoundError:
            continue
    raise Finding("LOG-27", record, f"the tile {kind}/{index} is missing")


class Tree:
    """The tree of RFC 6962, section 2.1, tile by tile: each row holds the hashes of its unfinished tile."""

    def __init__(self, directory):
        self.directory, self.size, self.rows, self.full = directory, 0, [], []

    def push(self, leaf):
        self.size += 1
        level, hashed = 0, leaf
        while hashed:
            if len(self.rows) == level:
                self.rows.append([])
            row = self.rows[level]
            row.append(hashed)
            if len(row) < WIDTH:
                return
            self.full.append((level, (self.size >> (8 * (level + 1))) - 1, row))
            hashed, self.rows[level] = fold(row), []
            level += 1

    def check(self):
        """Compares the tiles that are full since the last check."""
        for full in self.full:
            self.compare(*full)
        self.full.clear()

    def compare(self, level, index, row):
        start, each = (index * WIDTH) << (8 * level), 1 << (8 * level)
        found, longer = read_tile(self.directory, str(level), index, len(row), start)
        if len(found) != 32 * (WIDTH if longer else len(row)):
            raise Finding("LOG-29", start, f"the tile {level}/{index} has {len(found)} bytes")
        for at, made in enumerate(row):
            if found[32 * at:32 * at + 32] != made:
                raise Finding("LOG-29", start + at * each, f"the hash is not the one in the tile {level}/{index}")

    def finish(self):
        for level, row in enumerate(self.rows):
            if row:
                self.compare(level, self.size >> (8 * (level + 1)), row)

    def root(self):
        right = None
        for row in self.rows:
            rest = row + ([right] if right else [])
            right = fold(rest) if rest else None
        return right or hashlib.sha256().digest()


def fold(hashes):
    """The root over hashes: pairs from the left; what is alone at the end goes up as it is."""
    while len(hashes) > 1:
        pairs = [hashlib.sha256(b"\x01" + a + b).digest() for a, b in zip(hashes[::2], hashes[1::2])]
        hashes = pairs + hashes[len(pairs) * 2:]
    return hashes[0]


# --- records: LOG-8 to LOG-11, LOG-13, LOG-21, LOG-32

class Story:
    def __init__(self, keys, first):
        self.keys, self.first, self.turns = keys, first, 0
        self.time, self.intents, self.part = 0, set(), None

    def take(self, index, raw):
        try:
            text = raw.decode("ascii")
            record = json.loads(text, parse_constant=no_number, parse_float=no_number)
            canonical = json.dumps(record, sort_keys=True, separators=(",", ":")) == text and plain(record)
        except ValueError:
            canonical = False
        if not canonical or not isinstance(record, dict):
            raise Finding("LOG-9", index, "it is not canonical JSON")
        if record.get("schema") != 1 or not isinstance(record.get("time"), int):
            raise Finding("LOG-10", index, "its schema is unknown")
        if record.get("index") != index:
            raise Finding("LOG-11", index, f"it says that it is record {record.get('index')}")
        if record["time"] < self.time:
            raise Finding("LOG-8", index, "its time is before that of the record before")
        self.time = record["time"]
        part, parts = record.get("part"), record.get("parts")
        begins = parts is None and part is None or parts and part == 0 and parts > 1
        if (part, parts) != self.part if self.part else not begins:
            raise Finding("LOG-13", index, "a part of a record is missing or out of order")
        self.part = (part + 1, parts) if parts and part + 1 < parts else None
        if "intent" in record:
            if record["intent"] not in self.intents:
                raise Finding("LOG-21", index, f"record {record['intent']} is no open intent")
            self.intents.remove(record["intent"])
        if record.get("outcome") == "intent" and not part:
            self.intents.add(index)
        if record.get("event") == "log.key_rotated" and record.get("outcome") == "done":
            self.rotate(index, record.get("facts", {}))

    def rotate(self, index, facts):
        key = verifier_key(facts.get("log_key", ""))
        origin, old = self.keys[self.turns] if self.turns < len(self.keys) else (None, b"")
        if key is None or origin != key[0] or facts.get("old_log_key") != key_id(origin, old).hex():
            raise Finding("LOG-32", index, "it does not name a key of this log and the one before it")
        self.turns += 1
        if self.turns < len(self.keys) and self.keys[self.turns] != key:
            raise Finding("LOG-32", index, "it names another key than the directory")
        if self.turns <= len(self.first) and self.first[self.turns - 1] <= index:
            raise Finding("LOG-32", index, "its key signed a checkpoint before the record was there")


def no_number(_):
    raise ValueError


def plain(value):
    """No true, false or null; integers to 2^53; printable ASCII."""
    if isinstance(value, dict):
        return all(plain(key) and plain(one) for key, one in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    if isinstance(value, str):
        return all(" " <= letter <= "~" for letter in value)
    return type(value) is int and 0 <= value <= 2**53


# --- the whole: LOG-31

def read_text(*path):
    with open(os.path.join(*path), encoding="utf-8", newline="") as file:
        return file.read()


def read_optional(*path):
    try:
        return read_text(*path)
    except FileNotFoundError:
        return ""


def load(directory, trusted):
    """The keys, the sizes and roots that were signed, where each key signed first, and the newest checkpoint."""
    founding = verifier_key(read_text(directory, "checkpoint.pub"))
    if founding is None:
        raise Finding("LOG-15", 0, "checkpoint.pub is no verifier key")
    keys = [founding]
    for line in read_optional(directory, "successors").splitlines():
        key = verifier_key(line)
        if key is None or key in keys or key[0] != founding[0]:
            raise Finding("LOG-32", 0, "successors holds what is no other key of this log")
        keys.append(key)
    note = read_text(directory, "checkpoint")
    newest = opened_by_any(note, keys)
    notes, signed = [], []
    for one in split_notes(read_optional(directory, "handovers")):
        at = opened_by_any(one, keys, "LOG-32")
        if at[0] > newest[0]:
            break
        notes.append(one)
        signed.append(at)
    if [size for size, _ in signed] != sorted({size for size, _ in signed}):
        raise Finding("LOG-32", 0, "the sizes in handovers do not grow")
    if not signed or signed[-1] != newest:
        notes.append(note)
        signed.append(newest)
    reached, first = follow(notes, keys)
    if trusted not in keys:
        raise Finding("LOG-15", 0, "the key in the directory is not the one that was given")
    if keys.index(trusted) > reached:
        raise Finding("LOG-15", 0, "the key that was given has signed no checkpoint here")
    return keys, signed, first, newest


def verify(directory, trusted, since, policy):
    keys, signed, first, (size, _) = load(directory, trusted)
    seen = read_optional(directory, "checkpoint.witnessed")
    if seen:
        signed.append(opened_by_any(seen, keys, "LOG-35"))
    if policy and not policy(seen)[1]:
        raise Finding("LOG-35", signed[-1][0] if seen else 0, "the witnesses who cosigned are not enough")
    if since is not None:
        signed.append(opened_by_any(since, keys))
    signed.sort(key=lambda one: one[0])
    tree, story = Tree(directory), Story(keys, first)
    while tree.size < size:
        bundle(directory, tree, story, min(WIDTH, size - tree.size), signed)
    tree.finish()
    if story.part:
        raise Finding("LOG-13", size - 1, "the last record is not complete")
    for beyond, _ in signed:
        if beyond > size:
            raise Finding("LOG-17", size, f"the log ends here; a checkpoint has {beyond} records")
    if size == 0:
        raise Finding("LOG-1", 0, "there is no record")
    if len(first) > story.turns:
        raise Finding("LOG-32", first[story.turns], "a key that no record names signed a checkpoint")
    return size, tree.root()


def bundle(directory, tree, story, width, signed):
    start = tree.size
    raw, longer = read_tile(directory, "entries", start // WIDTH, width, start)
    at = 0
    for index in range(start, start + width):
        length = struct.unpack_from(">H", raw, at)[0] if at + 2 <= len(raw) else 0
        record = raw[at + 2:at + 2 + length]
        if length == 0 or len(record) != length:
            raise Finding("LOG-28", index, "the bundle ends before it or in it")
        at += 2 + length
        story.take(index, record)
        tree.push(hashlib.sha256(b"\x00" + record).digest())
        for size, root in signed:
            if size == tree.size and root != tree.root():
                good = max([other for other, _ in signed if other < size], default=0)
                raise Finding("LOG-16", good, f"records up to {size - 1} are not those of the checkpoint")
        tree.check()
    if at != len(raw) and not longer:
        raise Finding("LOG-28", start + width, "bytes follow the last record of the bundle")


def main():
    parser = argparse.ArgumentParser(description="Verifies a log that `keyward audit export` wrote.")
    parser.add_argument("dir")
    parser.add_argument("--key", required=True, metavar="FILE")
    parser.add_argument("--since", metavar="CHECKPOINT")
    parser.add_argument("--witness-policy", metavar="FILE")
    options = parser.parse_args()
    trusted = verifier_key(read_text(options.key).strip().split("\n")[0])
    if trusted is None:
        sys.exit(f"{options.key} holds no verifier key")
    try:
        policy = options.witness_policy and witness_policy(read_text(options.witness_policy))
        size, root = verify(options.dir, trusted, options.since and read_text(options.since), policy)
    except Finding as finding:
        print(finding)
        return 1
    except (OSError, UnicodeDecodeError) as error:
        print(f"cannot read: {error}", file=sys.stderr)
        return 2
    print(f"{trusted[0]} verifies: {size} records, root {root.hex()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
