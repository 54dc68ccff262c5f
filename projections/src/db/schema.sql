-- What belongs to no projection.

-- Which version of each projection's tables is here.
CREATE TABLE projection (
  name    TEXT   NOT NULL PRIMARY KEY,
  version BIGINT NOT NULL
);

-- How far each projection has read each stream: the last message in it, and that message's hash.
CREATE TABLE checkpoint (
  projection TEXT   NOT NULL,
  stream     TEXT   NOT NULL,
  sequence   BIGINT NOT NULL,
  hash       TEXT   NOT NULL,
  PRIMARY KEY (projection, stream)
);

-- The furthest message ever seen in a stream; a broker behind it has lost something.
CREATE TABLE head (
  stream   TEXT   NOT NULL PRIMARY KEY,
  sequence BIGINT NOT NULL,
  hash     TEXT   NOT NULL
);

-- Messages that could not be taken in, and what waits behind them.
CREATE TABLE parked (
  projection  TEXT   NOT NULL,
  stream      TEXT   NOT NULL,
  sequence    BIGINT NOT NULL,
  subject_key TEXT   NOT NULL,
  behind      BIGINT,           -- sequence of the message that it waits for; none for one that broke itself
  reason      TEXT   NOT NULL,
  at          BIGINT NOT NULL,
  PRIMARY KEY (projection, stream, sequence)
);
