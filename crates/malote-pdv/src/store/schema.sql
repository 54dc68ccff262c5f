-- The till's own database. A till may read it with plain SQL, through the views at the end; only malote writes it.

-- Whose directory this is, and what is known of this till at the hub. One row.
CREATE TABLE identity (
    one          INTEGER PRIMARY KEY CHECK (one = 1),
    store        TEXT NOT NULL,
    pdv          TEXT NOT NULL,
    -- Sequence of this till's last report in the hub's stream, as far as known.
    reported     INTEGER NOT NULL DEFAULT 0,
    -- Whether this directory has ever compared its reports with the hub's.
    reporting    INTEGER NOT NULL DEFAULT 0,
    -- Whether the hub has ever said which groups the store is in.
    groups_known INTEGER NOT NULL DEFAULT 0,
    -- How often the store's stream was found cut, and when last, in microseconds since 1970.
    truncations  INTEGER NOT NULL DEFAULT 0,
    truncated_at INTEGER
) STRICT;

-- The last message taken in of each stream, with its hash.
CREATE TABLE cursor (
    stream   TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    hash     BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Names that records repeat, once.
CREATE TABLE kind (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- Scopes that lots came for. `counts` is 0 for a group that the store has left: its records stay, and do not show.
CREATE TABLE scope (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE,
    rank   INTEGER NOT NULL,
    counts INTEGER NOT NULL
) STRICT;

-- Every lot that was announced: the local log, and what is still to do.
CREATE TABLE lot (
    id          INTEGER PRIMARY KEY,
    lot         TEXT NOT NULL UNIQUE,
    -- Where it was announced in the store's stream, and the hash of that message.
    notice      INTEGER NOT NULL,
    notice_hash BLOB NOT NULL,
    -- The notice's event id, and the command that all of it came of.
    cause       TEXT NOT NULL,
    correlation TEXT NOT NULL,
    scope       INTEGER NOT NULL REFERENCES scope (id),
    full        INTEGER NOT NULL,
    -- Declared kinds, separated by spaces.
    kinds       TEXT NOT NULL,
    version     INTEGER NOT NULL,
    chunks      INTEGER NOT NULL,
    records     INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    digest      BLOB NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('waiting', 'failed', 'applied', 'superseded')),
    seen_at     INTEGER NOT NULL,
    done_at     INTEGER,
    attempts    INTEGER NOT NULL DEFAULT 0,
    next_try_at INTEGER NOT NULL DEFAULT 0,
    reason      TEXT,
    upserted    INTEGER NOT NULL DEFAULT 0,
    deleted     INTEGER NOT NULL DEFAULT 0,
    quarantined INTEGER NOT NULL DEFAULT 0,
    superseded_by TEXT
) STRICT;
CREATE INDEX lot_notice ON lot (notice);
CREATE INDEX lot_open ON lot (notice) WHERE state IN ('waiting', 'failed');

-- The catalogue. The row of the greater version is the scope's; no body is a delete that outlives late upserts.
-- Version and lot are always there, and not declared so: a constraint that an update could break makes SQLite keep
-- a journal of each statement, in a file.
CREATE TABLE record (
    kind    INTEGER NOT NULL,
    key     TEXT NOT NULL,
    scope   INTEGER NOT NULL,
    version INTEGER,
    lot     INTEGER,
    body    TEXT,
    PRIMARY KEY (kind, key, scope)
) STRICT, WITHOUT ROWID;

-- The version of the last full lot of a scope and kind: whatever is older does not count.
CREATE TABLE floor (
    scope   INTEGER NOT NULL REFERENCES scope (id),
    kind    INTEGER NOT NULL REFERENCES kind (id),
    version INTEGER NOT NULL,
    lot     TEXT NOT NULL,
    PRIMARY KEY (scope, kind)
) STRICT, WITHOUT ROWID;

-- Chunks of a lot that is on its way down, as they were stored at the hub.
CREATE TABLE chunk (
    lot     INTEGER NOT NULL REFERENCES lot (id),
    number  INTEGER NOT NULL,
    payload BLOB NOT NULL,
    UNIQUE (lot, number)
) STRICT;

-- Records that could not be applied.
CREATE TABLE quarantine (
    lot    INTEGER NOT NULL REFERENCES lot (id),
    kind   TEXT NOT NULL,
    key    TEXT NOT NULL,
    reason TEXT NOT NULL,
    body   TEXT
) STRICT;
CREATE INDEX quarantine_lot ON quarantine (lot);

-- Notices that this version does not understand.
CREATE TABLE unread (
    notice  INTEGER PRIMARY KEY,
    subject TEXT NOT NULL,
    reason  TEXT NOT NULL
) STRICT;

-- Reports to the hub, in order. `sent` is their sequence in the hub's stream once it has them.
CREATE TABLE outbox (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    event        TEXT NOT NULL UNIQUE,
    message_type TEXT NOT NULL,
    payload      BLOB NOT NULL,
    sent         INTEGER
) STRICT;
CREATE INDEX outbox_unsent ON outbox (id) WHERE sent IS NULL;

-- What the till shows: of each kind and key the record of the narrowest scope.
CREATE VIEW catalogue AS
SELECT k.name AS kind, r.key AS key, s.name AS scope, r.version AS version, l.lot AS lot, r.body AS body
  FROM kind k CROSS JOIN record r CROSS JOIN scope s CROSS JOIN lot l
 WHERE r.kind = k.id AND s.id = r.scope AND l.id = r.lot
   AND r.body IS NOT NULL AND s.counts = 1
   AND NOT EXISTS (
       SELECT 1 FROM record o CROSS JOIN scope t
        WHERE o.kind = r.kind AND o.key = r.key AND o.scope <> r.scope AND t.id = o.scope
          AND o.body IS NOT NULL AND t.counts = 1
          AND (t.rank, o.version, t.id) > (s.rank, r.version, s.id));

-- Fields as in proto/records/product.schema.json; what a record leaves out is NULL, `active` is 1.
CREATE VIEW product AS
SELECT key AS sku,
       json_extract(body, '$.description') AS description,
       json_extract(body, '$.department') AS department,
       json_extract(body, '$.category') AS category,
       json_extract(body, '$.brand') AS brand,
       json_extract(body, '$.manufacturer') AS manufacturer,
       json_extract(body, '$.supplier_cnpj') AS supplier_cnpj,
       json_extract(body, '$.package_size') AS package_size,
       json_extract(body, '$.unit') AS unit,
       json_extract(body, '$.gtin') AS gtin,
       json_extract(body, '$.alternative_code') AS alternative_code,
       json_extract(body, '$.product_type') AS product_type,
       json_extract(body, '$.origin') AS origin,
       json_extract(body, '$.ncm') AS ncm,
       json_extract(body, '$.cest') AS cest,
       json_extract(body, '$.relevant_scale') AS relevant_scale,
       json_extract(body, '$.fractional') AS fractional,
       json_extract(body, '$.rounding') AS rounding,
       json_extract(body, '$.batch_controlled') AS batch_controlled,
       json_extract(body, '$.max_discount_permille') AS max_discount_permille,
       json_extract(body, '$.net_weight_grams') AS net_weight_grams,
       json_extract(body, '$.gross_weight_grams') AS gross_weight_grams,
       coalesce(json_extract(body, '$.active'), 1) AS active,
       scope, version, lot
  FROM catalogue WHERE kind = 'product';

-- Fields as in proto/records/price.schema.json; what a record leaves out is NULL, `active` is 1.
CREATE VIEW price AS
SELECT key AS sku,
       json_extract(body, '$.price_cents') AS price_cents,
       json_extract(body, '$.promo_price_cents') AS promo_price_cents,
       json_extract(body, '$.valid_from') AS valid_from,
       json_extract(body, '$.valid_until') AS valid_until,
       json_extract(body, '$.minimum_quantity_thousandths') AS minimum_quantity_thousandths,
       json_extract(body, '$.price_list') AS price_list,
       json_extract(body, '$.package') AS package,
       json_extract(body, '$.discount_reason') AS discount_reason,
       coalesce(json_extract(body, '$.active'), 1) AS active,
       scope, version, lot
  FROM catalogue WHERE kind = 'price';

PRAGMA application_id = 1835823204;
PRAGMA user_version = 1;
