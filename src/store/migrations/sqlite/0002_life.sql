-- The life of keys: partitions, what each sidecar counted, and who is in the fleet.

-- Partition keys, each wrapped by a data key of its keyring. A shredded one keeps its row without a wrap.
CREATE TABLE partitions (
    keyring TEXT NOT NULL,
    name BLOB NOT NULL CHECK (length(name) = 16),
    parent BLOB NOT NULL CHECK (length(parent) = 8),
    state TEXT NOT NULL,
    generation INTEGER NOT NULL CHECK (generation >= 1),
    body TEXT NOT NULL,
    wrap BLOB NOT NULL,
    tag BLOB NOT NULL CHECK (length(tag) = 32),
    PRIMARY KEY (keyring, name)
) STRICT, WITHOUT ROWID;

-- Rewrapping asks for the partitions under one data key.
CREATE INDEX partitions_by_parent ON partitions (keyring, parent, name);

-- What one sidecar counted of one key.
CREATE TABLE usage (
    key BLOB NOT NULL CHECK (length(key) = 8),
    sidecar BLOB NOT NULL CHECK (length(sidecar) = 16),
    generation INTEGER NOT NULL CHECK (generation >= 1),
    body TEXT NOT NULL,
    tag BLOB NOT NULL CHECK (length(tag) = 32),
    PRIMARY KEY (key, sidecar)
) STRICT, WITHOUT ROWID;

-- What each sidecar says of itself.
CREATE TABLE sidecars (
    id BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    generation INTEGER NOT NULL CHECK (generation >= 1),
    body TEXT NOT NULL,
    tag BLOB NOT NULL CHECK (length(tag) = 32)
) STRICT, WITHOUT ROWID;

-- A keyring is read whole: its head and its keys.
CREATE INDEX keys_by_keyring ON keys (keyring, id);

CREATE TRIGGER partitions_are_not_deleted BEFORE DELETE ON partitions
BEGIN
    SELECT RAISE (ABORT, 'a partition row is a record of the partition');
END;
