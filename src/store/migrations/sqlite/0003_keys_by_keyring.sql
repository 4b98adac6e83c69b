-- Keys lie beside the other keys of their keyring. What goes over all keyrings goes over them in the order of their
-- names: by the keys' random ids every key that a rewrapping writes was a page of its own. Nothing ever asked for the
-- keys under one parent.

CREATE TABLE moved (
    id BLOB NOT NULL CHECK (length(id) = 8),
    purpose TEXT NOT NULL,
    keyring TEXT NOT NULL REFERENCES keyrings (name) DEFERRABLE INITIALLY DEFERRED,
    parent TEXT NOT NULL,
    state TEXT NOT NULL,
    generation INTEGER NOT NULL CHECK (generation >= 1),
    body TEXT NOT NULL,
    wraps BLOB NOT NULL,
    tag BLOB NOT NULL CHECK (length(tag) = 32),
    PRIMARY KEY (keyring, id)
) STRICT, WITHOUT ROWID;

INSERT INTO moved (id, purpose, keyring, parent, state, generation, body, wraps, tag)
SELECT id, purpose, keyring, parent, state, generation, body, wraps, tag FROM keys ORDER BY keyring, id;

DROP TABLE keys;
ALTER TABLE moved RENAME TO keys;

-- An id is taken once in the whole store.
CREATE UNIQUE INDEX keys_by_id ON keys (id);

CREATE TRIGGER keys_are_not_deleted BEFORE DELETE ON keys
BEGIN
    SELECT RAISE (ABORT, 'a key row is a record of the key');
END;
