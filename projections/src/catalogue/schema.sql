-- What the back office has sent, record by record and scope by scope: the later release wins.

CREATE TABLE catalogue (
  scope   TEXT   NOT NULL,
  kind    TEXT   NOT NULL,
  rec_key TEXT   NOT NULL,
  version BIGINT NOT NULL, -- of the lot that holds it
  lot     TEXT   NOT NULL,
  deleted BIGINT NOT NULL, -- 1: a tombstone, without a body
  hash    TEXT   NOT NULL, -- first 16 bytes of the record's BLAKE3, in hexadecimal digits
  body    TEXT,
  PRIMARY KEY (scope, kind, rec_key)
);

-- The greatest full lot of a scope and kind: nothing older is there, and nothing older comes in.
CREATE TABLE catalogue_floor (
  scope   TEXT   NOT NULL,
  kind    TEXT   NOT NULL,
  version BIGINT NOT NULL,
  PRIMARY KEY (scope, kind)
);

-- The scopes that anything was ever sent to: a record is looked up in each of them.
CREATE TABLE catalogue_scope (
  scope TEXT NOT NULL PRIMARY KEY
);
