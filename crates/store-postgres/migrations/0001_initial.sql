-- The first schema. Never change a migration that was released: add the next number.
-- Amounts are whole Rupiah, moments milliseconds since 1970 UTC, dates numbers like 20190707.
-- Environments: 0 live, 1 sandbox. Accounts: see domain::ledger::Account::code.
--
-- Where money is concerned, rows are only ever added, under keys that hold what may happen once: an invoice
-- is begun once, settled once, and posts once a step. Only balances, positions and what operators keep are
-- updated.

-- One inquiry: what nothing changes afterwards, the bill included. Numbers ascend, so it grows at its end.
CREATE TABLE invoice (
    number        bigint PRIMARY KEY,
    inquired_at   bigint NOT NULL,
    payable_until bigint,
    total         bigint NOT NULL,
    fee           bigint NOT NULL,
    cashback      bigint NOT NULL,
    partner       bigint NOT NULL,
    upstream      bigint NOT NULL,
    business_date integer NOT NULL,
    environment   smallint NOT NULL,
    product       text COLLATE "C" NOT NULL,
    chassis       text COLLATE "C" NOT NULL,
    payment_code  text COLLATE "C",
    refusal       text COLLATE "C", -- JSON; makes it a FAILURE
    body          text COLLATE "C" NOT NULL -- JSON: the presentment
);
CREATE INDEX invoice_by_partner ON invoice (partner, number);
-- Days come in the order of numbers: the first and last of each range of pages are enough.
CREATE INDEX invoice_by_business_date ON invoice USING brin (business_date) WITH (autosummarize = on);

-- A reservation: from here on the invoice is PENDING.
CREATE TABLE payment (
    number        bigint PRIMARY KEY,
    begun_at      bigint NOT NULL,
    send_before   bigint NOT NULL,
    resolve_after bigint NOT NULL,
    identity      text COLLATE "C" NOT NULL
);

-- The outcome: CONFIRM with the bank's numbers, REFUND with the proof.
CREATE TABLE settlement (
    number           bigint PRIMARY KEY,
    settled_at       bigint NOT NULL,
    reference_number text COLLATE "C",
    trace_number     text COLLATE "C",
    proof            text COLLATE "C", -- JSON
    CHECK ((proof IS NULL) = (reference_number IS NOT NULL AND trace_number IS NOT NULL))
);

-- One step of a subject: its lines side by side. Steps: 1 begin, 2 settle, 3 manual.
CREATE TABLE posting (
    subject  bigint NOT NULL,
    at       bigint NOT NULL,
    step     smallint NOT NULL,
    accounts bigint[] NOT NULL,
    amounts  bigint[] NOT NULL,
    PRIMARY KEY (subject, step),
    CHECK (cardinality(accounts) = cardinality(amounts))
);

-- For people and reports: one row a line.
CREATE VIEW posting_line AS
    SELECT subject, step, line.account, line.amount, at
    FROM posting, unnest(accounts, amounts) AS line (account, amount);

-- A partner's deposit and what is reserved of it move together and stand in one row, under the deposit's
-- account. Without an amount: never used, there to be locked.
CREATE TABLE balance (
    account  bigint PRIMARY KEY,
    amount   bigint,
    reserved bigint
) WITH (fillfactor = 40);

-- Everything that has one owner, but for vehicles: domain::rows::Claim::key.
CREATE TABLE claim (
    key   text COLLATE "C" PRIMARY KEY,
    owner bigint NOT NULL
);

-- A vehicle is claimed while its payment is open, so that this table stays small, and lists what is PENDING.
CREATE TABLE vehicle_claim (
    key   text COLLATE "C" PRIMARY KEY,
    owner bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
CREATE INDEX vehicle_claim_by_owner ON vehicle_claim (owner);

-- In the order in which they are read: positions are given under the lock of the counter `outbox`, last in
-- each transaction.
CREATE TABLE outbox (
    id          bigint PRIMARY KEY,
    subject     bigint NOT NULL,
    at          bigint NOT NULL,
    partner     bigint NOT NULL,
    sequence    integer NOT NULL,
    environment smallint NOT NULL,
    kind        text COLLATE "C" NOT NULL
);

CREATE TABLE entry (
    number      bigint PRIMARY KEY,
    kind        text COLLATE "C" NOT NULL,
    environment smallint NOT NULL,
    partner     bigint NOT NULL,
    amount      bigint NOT NULL,
    operator    text COLLATE "C" NOT NULL,
    reference   text COLLATE "C" NOT NULL,
    at          bigint NOT NULL
);
CREATE INDEX entry_by_partner ON entry (partner, number);

CREATE TABLE incident (
    invoice      bigint NOT NULL, -- 0 for none
    kind         text COLLATE "C" NOT NULL,
    detail       text COLLATE "C" NOT NULL,
    first_at     bigint NOT NULL,
    last_at      bigint NOT NULL,
    count        bigint NOT NULL,
    corrected_by bigint,
    PRIMARY KEY (invoice, kind)
);
CREATE INDEX incident_by_last_at ON incident (last_at DESC, invoice, kind);

CREATE TABLE proposal (
    invoice bigint PRIMARY KEY,
    body    text COLLATE "C" NOT NULL -- JSON
);

CREATE TABLE partner (
    id       bigint PRIMARY KEY,
    username text COLLATE "C" NOT NULL UNIQUE,
    body     text COLLATE "C" NOT NULL -- JSON
);

CREATE TABLE product (
    environment smallint NOT NULL,
    code        text COLLATE "C" NOT NULL,
    body        text COLLATE "C" NOT NULL, -- JSON
    PRIMARY KEY (environment, code)
);

CREATE TABLE counter (
    name  text COLLATE "C" PRIMARY KEY,
    value bigint NOT NULL
) WITH (fillfactor = 40);
INSERT INTO counter (name, value)
VALUES ('invoice', 0), ('entry', 0), ('partner', 0), ('upstream', 0), ('sandbox_reset', 0), ('catalogue', 0),
    ('outbox', 0);

CREATE TABLE lease (
    name     text COLLATE "C" PRIMARY KEY,
    holder   text COLLATE "C" NOT NULL, -- empty: nobody
    token    bigint NOT NULL,
    renewals bigint NOT NULL
) WITH (fillfactor = 40);

-- Which batches are written. committed = false fences the id of a batch that was given up.
CREATE TABLE batch (
    id        uuid PRIMARY KEY,
    committed boolean NOT NULL
);

-- Where everything here was copied from, if it was. Until it is finished, nobody else opens this database.
CREATE TABLE copied_from (
    only_one    smallint PRIMARY KEY CHECK (only_one = 1),
    source      text COLLATE "C" NOT NULL,
    fingerprint text COLLATE "C" NOT NULL, -- of the source
    begun_at    timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);

-- How far each part of the copy is: written by the transaction that writes the rows.
CREATE TABLE copy_progress (
    part      text COLLATE "C" PRIMARY KEY, -- store::copy::Part
    reached   text COLLATE "C" NOT NULL,
    row_count bigint NOT NULL,
    digest    bigint NOT NULL,
    is_done   boolean NOT NULL
);
