-- The first schema. Never change a migration that was released: add the next number.
-- Amounts are whole Rupiah, moments milliseconds since 1970 UTC, dates numbers like 20190707.
-- Environments: 0 live, 1 sandbox. Accounts: see domain::ledger::Account::code.

-- What every payment reads and writes: narrow, and growing at its end.
-- States: 0 FAILURE, 1 INQUIRY, 2 PENDING, 3 CONFIRM, 4 REFUND.
CREATE TABLE invoice (
    number           INTEGER PRIMARY KEY,
    state            INTEGER NOT NULL,
    sequence         INTEGER NOT NULL,
    environment      INTEGER NOT NULL,
    partner          INTEGER NOT NULL,
    upstream         INTEGER NOT NULL,
    business_date    INTEGER NOT NULL,
    inquired_at      INTEGER NOT NULL,
    payable_until    INTEGER,
    total            INTEGER NOT NULL,
    fee              INTEGER NOT NULL,
    cashback         INTEGER NOT NULL,
    product          TEXT NOT NULL,
    chassis          TEXT NOT NULL,
    payment_code     TEXT,
    begun_at         INTEGER,
    send_before      INTEGER,
    resolve_after    INTEGER,
    identity         TEXT,
    settled_at       INTEGER,
    reference_number TEXT,
    trace_number     TEXT,
    detail           TEXT -- JSON: a FAILURE's refusal, a REFUND's proof
) STRICT;
CREATE INDEX invoice_by_partner ON invoice (partner);
CREATE INDEX invoice_by_business_date ON invoice (business_date);
CREATE INDEX invoice_pending ON invoice (state) WHERE state = 2;

-- The wide half of an invoice: written once, never changed.
CREATE TABLE presentment (
    number INTEGER PRIMARY KEY,
    body   TEXT NOT NULL -- JSON
) STRICT;

-- Only ever added to. Steps: 1 begin, 2 settle, 3 manual.
CREATE TABLE posting (
    subject INTEGER NOT NULL,
    step    INTEGER NOT NULL,
    account INTEGER NOT NULL,
    amount  INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (subject, step, account)
) STRICT, WITHOUT ROWID;

CREATE TABLE balance (
    account INTEGER PRIMARY KEY,
    amount  INTEGER NOT NULL
) STRICT;

CREATE TABLE claim (
    key   TEXT PRIMARY KEY,
    owner INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    id          INTEGER PRIMARY KEY,
    subject     INTEGER NOT NULL,
    sequence    INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    environment INTEGER NOT NULL,
    partner     INTEGER NOT NULL,
    at          INTEGER NOT NULL
) STRICT;

CREATE TABLE entry (
    number      INTEGER PRIMARY KEY,
    kind        TEXT NOT NULL,
    environment INTEGER NOT NULL,
    partner     INTEGER NOT NULL,
    amount      INTEGER NOT NULL,
    operator    TEXT NOT NULL,
    reference   TEXT NOT NULL,
    at          INTEGER NOT NULL
) STRICT;
CREATE INDEX entry_by_partner ON entry (partner);

CREATE TABLE incident (
    invoice      INTEGER NOT NULL, -- 0 for none
    kind         TEXT NOT NULL,
    detail       TEXT NOT NULL,
    first_at     INTEGER NOT NULL,
    last_at      INTEGER NOT NULL,
    count        INTEGER NOT NULL,
    corrected_by INTEGER,
    PRIMARY KEY (invoice, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX incident_by_last_at ON incident (last_at DESC, invoice, kind);

CREATE TABLE proposal (
    invoice INTEGER PRIMARY KEY,
    body    TEXT NOT NULL -- JSON
) STRICT;

CREATE TABLE partner (
    id       INTEGER PRIMARY KEY,
    username TEXT NOT NULL UNIQUE,
    body     TEXT NOT NULL -- JSON
) STRICT;

CREATE TABLE product (
    environment INTEGER NOT NULL,
    code        TEXT NOT NULL,
    body        TEXT NOT NULL, -- JSON
    PRIMARY KEY (environment, code)
) STRICT, WITHOUT ROWID;

CREATE TABLE counter (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- committed = 0 fences the id of a batch that was given up.
CREATE TABLE batch (
    id        BLOB PRIMARY KEY,
    committed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Always empty: written and rolled back by the question whether there is space.
CREATE TABLE probe (
    filling BLOB NOT NULL
) STRICT;
