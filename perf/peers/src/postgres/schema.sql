-- The ledger on one PostgreSQL instance. A transfer is one function call, or two halves on two instances.
DROP TABLE IF EXISTS accounts, transfers, decisions;
DROP FUNCTION IF EXISTS transfer, debit_half, credit_half;

-- Half of each page stays free, so that an update finds room on its page and touches no index.
CREATE TABLE accounts (
    id bigint PRIMARY KEY,
    debits_posted bigint NOT NULL,
    credits_posted bigint NOT NULL
) WITH (fillfactor = 50);

-- The key makes an id take effect at most once.
CREATE TABLE transfers (
    id bigint PRIMARY KEY,
    debit_account bigint NOT NULL,
    credit_account bigint NOT NULL,
    amount bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);

-- What the coordinator decided; only commits are written down, the rest is presumed aborted.
CREATE TABLE decisions (id bigint PRIMARY KEY);

-- The row with the lower id is locked first: two transfers between the same accounts in opposite
-- directions would otherwise wait for each other.
CREATE FUNCTION transfer(transfer_id bigint, debtor bigint, creditor bigint, units bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF creditor < debtor THEN
        UPDATE accounts SET credits_posted = credits_posted + units WHERE id = creditor;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'no account %', creditor;
        END IF;
    END IF;
    UPDATE accounts SET debits_posted = debits_posted + units
        WHERE id = debtor AND debits_posted + units <= credits_posted;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'exceeds credits' USING ERRCODE = 'QU001';
    END IF;
    IF debtor < creditor THEN
        UPDATE accounts SET credits_posted = credits_posted + units WHERE id = creditor;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'no account %', creditor;
        END IF;
    END IF;
    INSERT INTO transfers VALUES (transfer_id, debtor, creditor, units);
END
$$;

CREATE FUNCTION debit_half(transfer_id bigint, debtor bigint, creditor bigint, units bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE accounts SET debits_posted = debits_posted + units
        WHERE id = debtor AND debits_posted + units <= credits_posted;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'exceeds credits' USING ERRCODE = 'QU001';
    END IF;
    INSERT INTO transfers VALUES (transfer_id, debtor, creditor, units);
END
$$;

CREATE FUNCTION credit_half(transfer_id bigint, debtor bigint, creditor bigint, units bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE accounts SET credits_posted = credits_posted + units WHERE id = creditor;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no account %', creditor;
    END IF;
    INSERT INTO transfers VALUES (transfer_id, debtor, creditor, units);
END
$$;
