-- How many milliseconds a question that may pay or undo a payment may take to arrive; zero if none was asked.
ALTER TABLE invoice ADD COLUMN rest INTEGER NOT NULL DEFAULT 0;
