//! How a client of PostgreSQL carries out one transfer.
//!
//! Between two instances, presumed-abort two-phase commit (Mohan, Lindsay, Obermarck: "Transaction
//! management in the R* distributed database management system", 1986), each arrow one message of
//! the client, which coordinates, and one sync of a log:
//! ```text
//! client -> instance 1   BEGIN; half of the transfer; PREPARE TRANSACTION
//! client -> instance 2   BEGIN; half of the transfer; PREPARE TRANSACTION
//! client -> coordinator  INSERT INTO decisions         the instance of the debit account
//! client -> instance 1   COMMIT PREPARED
//! client -> instance 2   COMMIT PREPARED               answered
//! ```
//! Deviation: decisions are kept, which spares the server deleting them. Recovery, which would
//! read them after a crash of the client, is absent: runs that do not end well are thrown away.

use anyhow::Context;
use postgres::error::SqlState;
use postgres::{Client, NoTls, Statement};

use crate::drive::{Bank, Outcome};
use crate::payments::{Payment, instance_of};

/// What the functions in `schema.sql` raise when the debit account has too little.
const EXCEEDS_CREDITS: &str = "QU001";

/// One function call per transfer, each its own transaction.
pub struct LocalBank {
    client: Client,
    transfer: Statement,
}

impl LocalBank {
    /// Connects and has the call parsed and planned once.
    ///
    /// # Errors
    /// The server refuses.
    pub fn connect(parameters: &str) -> anyhow::Result<Self> {
        let mut client = Client::connect(parameters, NoTls)?;
        let transfer = client.prepare("SELECT transfer($1, $2, $3, $4)")?;
        Ok(Self { client, transfer })
    }
}

impl Bank for LocalBank {
    fn transfer(&mut self, payment: &Payment) -> anyhow::Result<Outcome> {
        let Payment {
            id,
            debit,
            credit,
            amount,
        } = payment;
        let result = self
            .client
            .execute(&self.transfer, &[id, debit, credit, amount]);
        match result {
            Ok(_) => Ok(Outcome::Committed),
            Err(error) if exceeds_credits(&error) => Ok(Outcome::ExceedsCredits),
            Err(error) => Err(error).context("transfer"),
        }
    }

    fn retried(&self) -> u64 {
        0
    }
}

/// A connection to each of two instances.
pub struct TwoPhaseBank {
    clients: [Client; 2],
    /// Of each client: keeps a decision.
    decide: [Statement; 2],
}

impl TwoPhaseBank {
    /// Connects to both.
    ///
    /// # Errors
    /// A server refuses.
    pub fn connect(parameters: [&str; 2]) -> anyhow::Result<Self> {
        let [first, second] = parameters;
        let mut clients = [
            Client::connect(first, NoTls)?,
            Client::connect(second, NoTls)?,
        ];
        let [first, second] = &mut clients;
        let decide = "INSERT INTO decisions VALUES ($1)";
        let decide = [first.prepare(decide)?, second.prepare(decide)?];
        Ok(Self { clients, decide })
    }

    /// Undoes what a refused transfer left: an open transaction on `refused`, a prepared one on
    /// each instance before it.
    fn abort(&mut self, id: i64, refused: usize) -> anyhow::Result<()> {
        self.clients[refused].batch_execute("ROLLBACK")?;
        for client in &mut self.clients[..refused] {
            client.batch_execute(&format!("ROLLBACK PREPARED '{id}'"))?;
        }
        Ok(())
    }
}

impl Bank for TwoPhaseBank {
    fn transfer(&mut self, payment: &Payment) -> anyhow::Result<Outcome> {
        let id = payment.id;
        let coordinator = instance_of(payment.debit);
        // Always instance 1 before instance 2, whoever pays: a row that is locked on one while the
        // client waits for the other could otherwise close a circle that no instance sees.
        for n in 0..self.clients.len() {
            let half = half(payment, n == coordinator);
            match self.clients[n].batch_execute(&half) {
                Ok(()) => {}
                Err(error) if exceeds_credits(&error) => {
                    self.abort(id, n).context("abort")?;
                    return Ok(Outcome::ExceedsCredits);
                }
                Err(error) => return Err(error).context("PREPARE TRANSACTION"),
            }
        }
        self.clients[coordinator]
            .execute(&self.decide[coordinator], &[&id])
            .context("log the decision")?;
        for client in &mut self.clients {
            let commit = format!("COMMIT PREPARED '{id}'");
            client.batch_execute(&commit).context("COMMIT PREPARED")?;
        }
        Ok(Outcome::Committed)
    }

    fn retried(&self) -> u64 {
        0
    }
}

/// The first phase on one instance, as one message.
fn half(payment: &Payment, debits: bool) -> String {
    let Payment {
        id,
        debit,
        credit,
        amount,
    } = payment;
    let function = if debits { "debit_half" } else { "credit_half" };
    format!(
        "BEGIN; SELECT {function}({id}, {debit}, {credit}, {amount}); PREPARE TRANSACTION '{id}'"
    )
}

fn exceeds_credits(error: &postgres::Error) -> bool {
    error.code() == Some(&SqlState::from_code(EXCEEDS_CREDITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_does_its_half_and_prepares_it() {
        let payment = Payment {
            id: 7,
            debit: 1,
            credit: 2,
            amount: 30,
        };
        assert_eq!(
            half(&payment, true),
            "BEGIN; SELECT debit_half(7, 1, 2, 30); PREPARE TRANSACTION '7'"
        );
        assert!(half(&payment, false).contains("credit_half(7, 1, 2, 30)"));
    }

    #[test]
    fn the_code_of_a_refusal_is_the_one_that_the_schema_raises() {
        let schema = include_str!("schema.sql");
        let raised = format!("ERRCODE = '{EXCEEDS_CREDITS}'");
        assert_eq!(schema.matches(&raised).count(), 2);
    }
}
