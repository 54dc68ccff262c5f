-- Stores, groups of stores and tills. `seq` is the message in REGISTRY that a row was last changed by.

CREATE TABLE store (
  store         TEXT   NOT NULL PRIMARY KEY,
  name          TEXT   NOT NULL,
  cnpj          TEXT,
  zone          TEXT   NOT NULL,
  registered_at BIGINT NOT NULL,
  changed_at    BIGINT NOT NULL,
  seq           BIGINT NOT NULL
);

CREATE TABLE store_group (
  store TEXT NOT NULL,
  grp   TEXT NOT NULL,
  PRIMARY KEY (store, grp)
);
CREATE INDEX store_group_by_grp ON store_group (grp, store);

CREATE TABLE grp (
  grp  TEXT   NOT NULL PRIMARY KEY,
  name TEXT   NOT NULL,
  seq  BIGINT NOT NULL
);

CREATE TABLE pdv (
  store         TEXT   NOT NULL,
  pdv           TEXT   NOT NULL,
  registered_at BIGINT NOT NULL,
  PRIMARY KEY (store, pdv)
);
