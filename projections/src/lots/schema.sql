-- Lots from LOTS, and what became of them at each till from PDVS. Columns ending in `_seq`, and `version`, are
-- places in those streams: they tell what to take out again after a broker has lost the tail of one.

CREATE TABLE lot (
  lot           TEXT   NOT NULL PRIMARY KEY,
  scope         TEXT   NOT NULL,
  mode          TEXT   NOT NULL, -- delta | full
  strict        BIGINT NOT NULL, -- 0 | 1
  state         TEXT   NOT NULL, -- open | closed | releasing | released | aborted | recalled
  opened_at     BIGINT NOT NULL,
  opened_by     TEXT   NOT NULL,
  closed_at     BIGINT,
  released_at   BIGINT,          -- its first wave
  activate_at   TEXT,            -- RFC 3339 with an offset, or without one for each store's own clock
  lease_seconds BIGINT NOT NULL,
  chunks        BIGINT NOT NULL,
  records       BIGINT NOT NULL,
  bytes         BIGINT NOT NULL,
  digest        TEXT,
  reason        TEXT,            -- why it was aborted or recalled
  as_of         BIGINT,
  version       BIGINT,          -- its first Released event
  stores        BIGINT NOT NULL, -- rows in lot_store
  correlation   TEXT   NOT NULL,
  opened_seq    BIGINT NOT NULL,
  closed_seq    BIGINT,
  complete_seq  BIGINT,          -- the Released event of the last wave
  ended_seq     BIGINT           -- Aborted or Recalled
);
CREATE INDEX lot_by_opened ON lot (opened_seq);
CREATE INDEX lot_by_state ON lot (state, opened_seq);
CREATE INDEX lot_by_scope ON lot (scope, opened_seq);
CREATE INDEX lot_by_release ON lot (scope, version);

CREATE TABLE lot_kind (
  lot     TEXT   NOT NULL,
  kind    TEXT   NOT NULL,
  records BIGINT NOT NULL,
  PRIMARY KEY (lot, kind)
);

CREATE TABLE lot_store (
  lot         TEXT   NOT NULL,
  store       TEXT   NOT NULL,
  version     BIGINT NOT NULL,   -- the Released event that named the store
  released_at BIGINT NOT NULL,
  PRIMARY KEY (lot, store)
);

CREATE TABLE lot_pdv (
  lot         TEXT   NOT NULL,
  store       TEXT   NOT NULL,
  pdv         TEXT   NOT NULL,
  state       TEXT   NOT NULL,   -- applied | applied_with_errors | failed | superseded
  upserted    BIGINT NOT NULL,
  deleted     BIGINT NOT NULL,
  quarantined BIGINT NOT NULL,
  reason      TEXT,              -- why it failed, or which lot replaces it
  attempt     BIGINT NOT NULL,
  next_try_at BIGINT,
  at          BIGINT NOT NULL,
  took_ms     BIGINT,
  notice      BIGINT NOT NULL,
  seq         BIGINT NOT NULL,
  PRIMARY KEY (lot, store, pdv)
);

-- How many tills reported each outcome of a lot: the sum of lot_pdv, kept so that a list of lots stays quick.
CREATE TABLE lot_total (
  lot   TEXT   NOT NULL,
  state TEXT   NOT NULL,
  pdvs  BIGINT NOT NULL,
  PRIMARY KEY (lot, state)
);

CREATE TABLE lot_problem (
  lot     TEXT   NOT NULL,
  store   TEXT   NOT NULL,
  pdv     TEXT   NOT NULL,
  n       BIGINT NOT NULL,
  kind    TEXT   NOT NULL,
  rec_key TEXT   NOT NULL,
  reason  TEXT   NOT NULL,
  PRIMARY KEY (lot, store, pdv, n)
);

CREATE TABLE pdv_seen (
  store  TEXT   NOT NULL,
  pdv    TEXT   NOT NULL,
  notice BIGINT NOT NULL,        -- greatest notice that the till has reported on
  at     BIGINT NOT NULL,
  seq    BIGINT NOT NULL,
  PRIMARY KEY (store, pdv)
);
