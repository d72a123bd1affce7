CREATE TABLE head (
	one      INTEGER PRIMARY KEY CHECK (one = 1),
	epoch    TEXT   NOT NULL,
	revision BIGINT NOT NULL, -- of the newest change
	horizon  BIGINT NOT NULL  -- of the newest deletion that was pruned
);

INSERT INTO head (one, epoch, revision, horizon) VALUES (1, '', 0, 0);

CREATE TABLE records (
	kind     TEXT   NOT NULL,
	key      TEXT   NOT NULL,
	tenant   TEXT   NOT NULL,
	revision BIGINT NOT NULL,
	seq      BIGINT NOT NULL,
	body     BYTEA, -- NULL: deleted
	PRIMARY KEY (kind, key)
);

CREATE INDEX records_changed ON records (revision);
CREATE INDEX records_deleted ON records (revision) WHERE body IS NULL;

CREATE TABLE secrets (
	kind     TEXT   NOT NULL,
	key      TEXT   NOT NULL,
	tenant   TEXT   NOT NULL,
	revision BIGINT NOT NULL,
	seq      BIGINT NOT NULL,
	body     BYTEA,  -- NULL: deleted, to be swept
	expires  BIGINT, -- in microseconds since 1970; NULL: never
	PRIMARY KEY (kind, key)
);

CREATE INDEX secrets_expiring ON secrets (expires) WHERE expires IS NOT NULL;
