-- What an upstream that is itself a provider charges and gives back; and whether the bank was asked to reverse.
-- Older gateways know neither such upstreams nor reversals, and go on as before.
ALTER TABLE invoice
    ADD COLUMN upstream_fee bigint NOT NULL DEFAULT 0,
    ADD COLUMN upstream_cashback bigint NOT NULL DEFAULT 0;
ALTER TABLE payment ADD COLUMN is_reversing boolean NOT NULL DEFAULT false;
