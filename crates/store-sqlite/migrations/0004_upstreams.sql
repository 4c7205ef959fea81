-- What an upstream that is itself a provider charges and gives back; and whether the bank was asked to reverse.
ALTER TABLE invoice ADD COLUMN is_reversing INTEGER NOT NULL DEFAULT 0;
ALTER TABLE invoice ADD COLUMN upstream_fee INTEGER NOT NULL DEFAULT 0;
ALTER TABLE invoice ADD COLUMN upstream_cashback INTEGER NOT NULL DEFAULT 0;
