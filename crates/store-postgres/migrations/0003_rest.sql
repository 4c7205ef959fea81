-- How many milliseconds a question that may pay or undo a payment may take to arrive; zero if none was asked. Older
-- gateways do not note it; all are to be restarted before operators decide by hand where such questions are asked.
ALTER TABLE payment ADD COLUMN rest bigint NOT NULL DEFAULT 0;
