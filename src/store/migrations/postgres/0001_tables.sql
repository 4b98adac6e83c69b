-- The tables of sealed rows, in a schema of their own. Every tag is an HMAC that keyward computes over all fields of its
-- row: an edit here is found when the row is read, and the store refuses to serve.
--
-- Names are ordered by their bytes (COLLATE "C"), as keyward orders them, whatever the database's language is.

CREATE SCHEMA keyward;

-- The number of this schema, and which keyward a reader of it needs; each migration updates them.
CREATE TABLE keyward.needs (
    one integer PRIMARY KEY CHECK (one = 1),
    schema integer NOT NULL,
    keyward text NOT NULL
);
INSERT INTO keyward.needs (one, schema, keyward) VALUES (1, 1, '0.1.0');

-- What the store is: made once.
CREATE TABLE keyward.genesis (
    one integer PRIMARY KEY CHECK (one = 1),
    generation bigint NOT NULL CHECK (generation >= 1),
    body text COLLATE "C" NOT NULL,
    tag bytea NOT NULL CHECK (octet_length(tag) = 32)
);

-- The head of each keyring: count of and root over its key rows.
CREATE TABLE keyward.keyrings (
    name text COLLATE "C" PRIMARY KEY,
    generation bigint NOT NULL CHECK (generation >= 1),
    body text COLLATE "C" NOT NULL,
    tag bytea NOT NULL CHECK (octet_length(tag) = 32)
);

-- Every wrapped key of whatever purpose. Rows are never deleted: a destroyed key keeps its row without wraps.
CREATE TABLE keyward.keys (
    id bytea PRIMARY KEY CHECK (octet_length(id) = 8),
    purpose text COLLATE "C" NOT NULL,
    keyring text COLLATE "C" NOT NULL REFERENCES keyward.keyrings (name) DEFERRABLE INITIALLY DEFERRED,
    parent text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    generation bigint NOT NULL CHECK (generation >= 1),
    body text COLLATE "C" NOT NULL,
    wraps bytea NOT NULL,
    tag bytea NOT NULL CHECK (octet_length(tag) = 32)
);

-- A KEK rotation asks for every row under one parent; a keyring is read whole, its head and its keys.
CREATE INDEX keys_by_parent ON keyward.keys (parent);
CREATE INDEX keys_by_keyring ON keyward.keys (keyring, id);

-- The chain of changes: each link names the digest of the one before.
CREATE TABLE keyward.changes (
    seq bigint PRIMARY KEY CHECK (seq >= 1),
    previous bytea NOT NULL CHECK (octet_length(previous) = 32),
    body text COLLATE "C" NOT NULL,
    tag bytea NOT NULL CHECK (octet_length(tag) = 32)
);

-- Partition keys, each wrapped by a data key of its keyring. A shredded one keeps its row without a wrap.
CREATE TABLE keyward.partitions (
    keyring text COLLATE "C" NOT NULL,
    name bytea NOT NULL CHECK (octet_length(name) = 16),
    parent bytea NOT NULL CHECK (octet_length(parent) = 8),
    state text COLLATE "C" NOT NULL,
    generation bigint NOT NULL CHECK (generation >= 1),
    body text COLLATE "C" NOT NULL,
    wrap bytea NOT NULL,
    tag bytea NOT NULL CHECK (octet_length(tag) = 32),
    PRIMARY KEY (keyring, name)
);

-- Rewrapping asks for the partitions under one data key.
CREATE INDEX partitions_by_parent ON keyward.partitions (keyring, parent, name);

-- What one sidecar counted of one key.
CREATE TABLE keyward.usage (
    key bytea NOT NULL CHECK (octet_length(key) = 8),
    sidecar bytea NOT NULL CHECK (octet_length(sidecar) = 16),
    generation bigint NOT NULL CHECK (generation >= 1),
    body text COLLATE "C" NOT NULL,
    tag bytea NOT NULL CHECK (octet_length(tag) = 32),
    PRIMARY KEY (key, sidecar)
);

-- What each sidecar says of itself.
CREATE TABLE keyward.sidecars (
    id bytea PRIMARY KEY CHECK (octet_length(id) = 16),
    generation bigint NOT NULL CHECK (generation >= 1),
    body text COLLATE "C" NOT NULL,
    tag bytea NOT NULL CHECK (octet_length(tag) = 32)
);

-- These stop keyward's own mistakes and a hasty hand; against an editor of the tables only the tags and the chain help.
CREATE FUNCTION keyward.is_a_record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are a record: never deleted, and changes are append-only', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER changes_are_not_edited BEFORE UPDATE OR DELETE ON keyward.changes
    FOR EACH ROW EXECUTE FUNCTION keyward.is_a_record();
CREATE TRIGGER changes_are_not_emptied BEFORE TRUNCATE ON keyward.changes
    FOR EACH STATEMENT EXECUTE FUNCTION keyward.is_a_record();
CREATE TRIGGER keys_are_not_deleted BEFORE DELETE ON keyward.keys
    FOR EACH ROW EXECUTE FUNCTION keyward.is_a_record();
CREATE TRIGGER keys_are_not_emptied BEFORE TRUNCATE ON keyward.keys
    FOR EACH STATEMENT EXECUTE FUNCTION keyward.is_a_record();
CREATE TRIGGER partitions_are_not_deleted BEFORE DELETE ON keyward.partitions
    FOR EACH ROW EXECUTE FUNCTION keyward.is_a_record();
CREATE TRIGGER partitions_are_not_emptied BEFORE TRUNCATE ON keyward.partitions
    FOR EACH STATEMENT EXECUTE FUNCTION keyward.is_a_record();
