CREATE TABLE signins (
	tenant      BYTEA NOT NULL,
	id          BYTEA NOT NULL, -- in the order of time
	body        BYTEA NOT NULL,
	correlation BYTEA,
	account     BYTEA,
	upn         BYTEA,
	address     BYTEA,
	app         BYTEA,
	code        BYTEA,
	kind        BYTEA,
	PRIMARY KEY (tenant, id)
);

CREATE INDEX signins_correlation ON signins (tenant, correlation, id) WHERE correlation IS NOT NULL;
CREATE INDEX signins_account ON signins (tenant, account, id) WHERE account IS NOT NULL;
CREATE INDEX signins_upn ON signins (tenant, upn, id) WHERE upn IS NOT NULL;
CREATE INDEX signins_address ON signins (tenant, address, id) WHERE address IS NOT NULL;
CREATE INDEX signins_app ON signins (tenant, app, id) WHERE app IS NOT NULL;
CREATE INDEX signins_code ON signins (tenant, code, id) WHERE code IS NOT NULL;
CREATE INDEX signins_kind ON signins (tenant, kind, id) WHERE kind IS NOT NULL;
