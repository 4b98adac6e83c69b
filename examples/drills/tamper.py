#!/usr/bin/env python3
"""Changes a real audit log in every way somebody could want to, and shows that each change is caught and named.

    examples/drills/tamper.py [KEYWARD]        (target/release/keyward unless given; Python's standard library only)

Makes a development sidecar in a temporary directory, keeps a checkpoint as an auditor would, exports the log, and runs
`keyward audit verify` over changed copies, and examples/verify.py over those of the export. Ends with 1 if a change goes
unnoticed or is named wrongly.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEYWARD = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else HERE.parent.parent / "target/release/keyward")
VERIFIER = HERE.parent / "verify.py"


def keyward(*arguments, fine=True):
    done = subprocess.run([KEYWARD, *map(str, arguments)], capture_output=True, text=True)
    if fine and done.returncode != 0:
        sys.exit(f"keyward {' '.join(map(str, arguments))}: {done.stderr}")
    return done


class Sidecar:
    """A development sidecar that makes records."""

    def __init__(self, root):
        self.root, self.config = root, root / "keyward.toml"

    def run(self, seals):
        serving = subprocess.Popen([KEYWARD, "serve", "--config", self.config], stderr=subprocess.DEVNULL)
        try:
            for _ in range(300):
                if keyward("keyring", "list", "--config", self.config, fine=False).returncode == 0:
                    break
                time.sleep(0.1)
            keyward("keyring", "create", "drill", "--config", self.config, fine=False)
            for number in range(seals):
                subprocess.run([KEYWARD, "seal", "--keyring", "drill", "--context", f"drill={number}", "--config", self.config],
                               input="a value of the drill", text=True, capture_output=True, check=True)
        finally:
            serving.terminate()
            serving.wait()


def bundle(tiles):
    """The newest bundle of records of an export."""
    return max((path for path in (tiles / "tile/entries").rglob("*") if path.is_file()), key=lambda path: str(path))


def records(path):
    data, found = path.read_bytes(), []
    while data:
        size = int.from_bytes(data[:2], "big")
        found.append(data[2:2 + size])
        data = data[2 + size:]
    return found


def store(path, all_records):
    path.write_bytes(b"".join(len(one).to_bytes(2, "big") + one for one in all_records))


def edited(change):
    def run(tiles):
        path = bundle(tiles)
        found = records(path)
        change(found)
        store(path, found)
    return run


def replace(found, index, old, new):
    assert old in found[index]
    found[index] = found[index].replace(old, new)


def swap(found, one, other):
    found[one], found[other] = found[other], found[one]


def segment(log):
    return sorted((log / "wal").iterdir())[-1]


def wal_edit(log):
    path = segment(log)
    data = bytearray(path.read_bytes())
    at = data.index(b'"data.sealed"')
    data[at:at + 13] = b'"data.opened"'
    path.write_bytes(data)


def wal_cut(log):
    path = segment(log)
    path.write_bytes(path.read_bytes()[:-700])


def hash_tile(tiles):
    return next(path for path in sorted((tiles / "tile/0").rglob("*")) if path.is_file())


def main():
    home = Path(tempfile.mkdtemp(prefix="keyward-drill-"))
    try:
        sys.exit(drill(home))
    finally:
        shutil.rmtree(home, ignore_errors=True)


def drill(home):
    keyward("init", "--development", home / "kw")
    sidecar, log = Sidecar(home / "kw"), home / "kw/state/log"
    sidecar.run(5)
    shutil.copytree(home / "kw", home / "older")
    shutil.copytree(log, home / "older-log")
    sidecar.run(6)
    key, kept = home / "log.key", home / "kept"
    shutil.copy(log / "checkpoint.pub", key)
    shutil.copy(log / "checkpoint", kept)
    keyward("audit", "export", log, "--to", home / "tiles")
    # Another history with the same key, as somebody could write who stole it: the older copy goes on by itself.
    config = home / "older/keyward.toml"
    config.write_text(config.read_text().replace(str(home / "kw"), str(home / "older")))
    Sidecar(home / "older").run(8)
    fork = home / "older/state/log"
    keyward("audit", "export", fork, "--to", home / "fork-tiles")
    keyward("init", "--development", home / "other")
    other = home / "other/state/log"

    def put(source, name):
        return lambda target: shutil.copy(source / name, target / name)

    def whole(source):
        def run(target):
            shutil.rmtree(target)
            shutil.copytree(source, target)
        return run

    # What is done, to which copy, what else the auditor gives, and the rule of src/audit/FORMAT.md that it breaks.
    cases = [
        ("nothing", log, lambda _: None, ["--since", kept], None),
        ("nothing", home / "tiles", lambda _: None, ["--since", kept], None),
        ("a record is edited", log, wal_edit, [], "LOG-6"),
        ("the end is cut off", log, wal_cut, [], "LOG-3"),
        ("a segment is removed", log, lambda copy: segment(copy).unlink(), [], "LOG-17"),
        ("put back to an older copy", log, whole(home / "older-log"), ["--since", kept], "LOG-17"),
        ("forked with the log's own key", log, whole(fork), ["--since", kept], "LOG-16"),
        ("checkpoint of another log", log, put(other, "checkpoint"), [], "LOG-14"),
        ("key of another log", log, put(other, "checkpoint.pub"), [], "LOG-14"),
        ("a record is edited", home / "tiles", edited(lambda all_: replace(all_, -3, b'"outcome":"done"', b'"outcome":"gone"')), [], "LOG-10"),
        ("a record is edited, well formed", home / "tiles",
         edited(lambda all_: replace(all_, -3, b"unverified", b"held")), [], "LOG-16"),
        ("a record is dropped", home / "tiles", edited(lambda all_: all_.pop(-3)), [], "LOG-11"),
        ("two records are swapped", home / "tiles", edited(lambda all_: swap(all_, -3, -4)), [], "LOG-11"),
        ("a record is repeated", home / "tiles", edited(lambda all_: all_.insert(-3, all_[-3])), [], "LOG-11"),
        ("a bundle is cut", home / "tiles", lambda copy: bundle(copy).write_bytes(bundle(copy).read_bytes()[:-9]), [], "LOG-28"),
        ("a bundle is removed", home / "tiles", lambda copy: bundle(copy).unlink(), [], "LOG-27"),
        ("a tile has another length", home / "tiles",
         lambda copy: hash_tile(copy).write_bytes(hash_tile(copy).read_bytes() + b"x"), [], "LOG-29"),
        ("a tile's hash is edited", home / "tiles",
         lambda copy: hash_tile(copy).write_bytes(b"x" * 32 + hash_tile(copy).read_bytes()[32:]), [], "LOG-29"),
        ("forked with the log's own key", home / "tiles", whole(home / "fork-tiles"), ["--since", kept], "LOG-16"),
        ("checkpoint of another log", home / "tiles", put(other, "checkpoint"), [], "LOG-14"),
    ]
    missed = 0
    for what, source, change, more, rule in cases:
        copy = home / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy)
        change(copy)
        kind = "export" if source == home / "tiles" else "log"
        done = keyward("audit", "verify", copy, "--key", key, *more, fine=False)
        said = done.stderr.strip().splitlines()[0] if done.stderr.strip() else "verifies"
        said = said.removeprefix("error: the log does not verify: ").replace(str(copy), "")
        right = done.returncode == 0 if rule is None else done.returncode != 0 and f" {rule} " in said
        if kind == "export":
            # A verifier that shares no code with keyward must find it too. It reads records less strictly and hashes all.
            second = subprocess.run([sys.executable, VERIFIER, copy, "--key", key, *more], capture_output=True, text=True)
            words = second.stdout + second.stderr
            right = right and (second.returncode == 0 if rule is None else second.returncode == 1 and "LOG-" in words)
        missed += not right
        print(f"{'ok    ' if right else 'MISSED'}  {kind:<6}  {what:<34} {said}")
    print(f"{len(cases) - missed} of {len(cases)} as it should be")
    return 1 if missed else 0


if __name__ == "__main__":
    main()
