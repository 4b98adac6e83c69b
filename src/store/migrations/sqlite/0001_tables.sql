-- The tables of sealed rows. Every tag is an HMAC that keyward computes over all fields of its row: an edit here
-- is found at the next start, and the store refuses to serve.

-- Which keyward a reader of this schema needs; each migration that raises the need updates it.
CREATE TABLE needs (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    keyward TEXT NOT NULL
) STRICT;
INSERT INTO needs (one, keyward) VALUES (1, '0.1.0');

-- What the store is: made once.
CREATE TABLE genesis (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    generation INTEGER NOT NULL CHECK (generation >= 1),
    body TEXT NOT NULL,
    tag BLOB NOT NULL CHECK (length(tag) = 32)
) STRICT;

-- The head of each keyring: count of and root over its key rows.
CREATE TABLE keyrings (
    name TEXT PRIMARY KEY NOT NULL,
    generation INTEGER NOT NULL CHECK (generation >= 1),
    body TEXT NOT NULL,
    tag BLOB NOT NULL CHECK (length(tag) = 32)
) STRICT, WITHOUT ROWID;

-- Every wrapped key of whatever purpose. Rows are never deleted: a destroyed key keeps its row without wraps.
CREATE TABLE keys (
    id BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 8),
    purpose TEXT NOT NULL,
    keyring TEXT NOT NULL REFERENCES keyrings (name) DEFERRABLE INITIALLY DEFERRED,
    parent TEXT NOT NULL,
    state TEXT NOT NULL,
    generation INTEGER NOT NULL CHECK (generation >= 1),
    body TEXT NOT NULL,
    wraps BLOB NOT NULL,
    tag BLOB NOT NULL CHECK (length(tag) = 32)
) STRICT, WITHOUT ROWID;

-- A KEK rotation asks for every row under one parent; a destruction asks for every row that names a key.
CREATE INDEX keys_by_parent ON keys (parent);

-- The chain of changes: each link names the digest of the one before.
CREATE TABLE changes (
    seq INTEGER PRIMARY KEY NOT NULL CHECK (seq >= 1),
    previous BLOB NOT NULL CHECK (length(previous) = 32),
    body TEXT NOT NULL,
    tag BLOB NOT NULL CHECK (length(tag) = 32)
) STRICT;

-- These stop keyward's own mistakes; against an editor of the file only the tags and the chain help.
CREATE TRIGGER changes_are_not_edited BEFORE UPDATE ON changes
BEGIN
    SELECT RAISE (ABORT, 'changes are append-only');
END;
CREATE TRIGGER changes_are_not_deleted BEFORE DELETE ON changes
BEGIN
    SELECT RAISE (ABORT, 'changes are append-only');
END;
CREATE TRIGGER keys_are_not_deleted BEFORE DELETE ON keys
BEGIN
    SELECT RAISE (ABORT, 'a key row is a record of the key');
END;
