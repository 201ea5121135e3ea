//! How a client of etcd carries out one transfer: read two balances, then swap both if unchanged.
//!
//! ```text
//! client -> server  read both accounts, serializable: the swap finds out whether they were old
//! client -> server  if neither changed since: put both and the transfer; else: read both again
//! ```
//! The second message is repeated, with what it read, until it succeeds or the balance is too low.

use anyhow::{Context, bail};
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::messages::{
    COMPARE_MOD, Compare, KeyValue, PutRequest, RangeRequest, RangeResponse, Request, RequestOp,
    Response, ResponseOp, Target, TxnRequest, TxnResponse,
};
use crate::drive::{Bank, Outcome};
use crate::payments::Payment;

/// Key of an account; all of one length, so that a range holds exactly them.
pub fn account_key(account: i64) -> Vec<u8> {
    format!("account/{account:010}").into_bytes()
}

fn transfer_key(id: i64) -> Vec<u8> {
    format!("transfer/{id:020}").into_bytes()
}

/// One connection, with the runtime that drives it.
pub struct EtcdBank {
    runtime: Runtime,
    channel: Grpc<Channel>,
    retried: u64,
}

/// An account as it was read.
struct Balance {
    units: i64,
    revision: i64,
}

impl EtcdBank {
    /// Connects.
    ///
    /// # Errors
    /// Nothing answers there.
    pub fn connect(endpoint: &str) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let target = Endpoint::from_shared(format!("http://{endpoint}"))?.tcp_nodelay(true);
        let channel = runtime
            .block_on(target.connect())
            .with_context(|| format!("connect to etcd at {endpoint}"))?;
        // A range over all accounts is larger than the default limit of an answer.
        let channel = Grpc::new(channel).max_decoding_message_size(usize::MAX);
        Ok(Self {
            runtime,
            channel,
            retried: 0,
        })
    }

    /// One transaction.
    ///
    /// # Errors
    /// The server fails.
    pub fn transact(&mut self, request: TxnRequest) -> anyhow::Result<TxnResponse> {
        self.call("/etcdserverpb.KV/Txn", request)
    }

    /// One linearizable read.
    ///
    /// # Errors
    /// The server fails.
    pub fn range(&mut self, request: RangeRequest) -> anyhow::Result<RangeResponse> {
        self.call("/etcdserverpb.KV/Range", request)
    }

    fn call<Q, A>(&mut self, path: &'static str, request: Q) -> anyhow::Result<A>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let Self {
            runtime, channel, ..
        } = self;
        let answer = runtime.block_on(async {
            channel.ready().await.context("the connection is closed")?;
            let codec = ProstCodec::<Q, A>::default();
            let path = PathAndQuery::from_static(path);
            let answer = channel.unary(tonic::Request::new(request), path, codec);
            answer.await.context("the server refused")
        });
        Ok(answer.with_context(|| path)?.into_inner())
    }
}

impl Bank for EtcdBank {
    fn transfer(&mut self, payment: &Payment) -> anyhow::Result<Outcome> {
        let both = [payment.debit, payment.credit];
        let read = TxnRequest {
            success: both.map(|account| read_op(account, true)).into(),
            ..TxnRequest::default()
        };
        let mut answer = self.transact(read)?;
        loop {
            let [debit, credit] = balances(&answer.responses)?;
            if debit.units < payment.amount {
                return Ok(Outcome::ExceedsCredits);
            }
            answer = self.transact(swap(payment, &debit, &credit))?;
            if answer.succeeded {
                return Ok(Outcome::Committed);
            }
            self.retried += 1;
        }
    }

    fn retried(&self) -> u64 {
        self.retried
    }
}

fn read_op(account: i64, serializable: bool) -> RequestOp {
    let range = RangeRequest {
        key: account_key(account),
        serializable,
        ..RangeRequest::default()
    };
    RequestOp {
        request: Some(Request::Range(range)),
    }
}

/// A part of a transaction that sets `key`.
pub fn put_op(key: Vec<u8>, value: String) -> RequestOp {
    let value = value.into_bytes();
    RequestOp {
        request: Some(Request::Put(PutRequest { key, value })),
    }
}

fn swap(payment: &Payment, debit: &Balance, credit: &Balance) -> TxnRequest {
    let unchanged = |account: i64, balance: &Balance| Compare {
        result: 0,
        target: COMPARE_MOD,
        key: account_key(account),
        value: Some(Target::ModRevision(balance.revision)),
    };
    let Payment {
        id,
        debit: from,
        credit: to,
        amount,
    } = *payment;
    TxnRequest {
        compare: vec![unchanged(from, debit), unchanged(to, credit)],
        success: vec![
            put_op(account_key(from), (debit.units - amount).to_string()),
            put_op(account_key(to), (credit.units + amount).to_string()),
            put_op(transfer_key(id), format!("{from} {to} {amount}")),
        ],
        failure: vec![read_op(from, false), read_op(to, false)],
    }
}

fn balances(responses: &[ResponseOp]) -> anyhow::Result<[Balance; 2]> {
    let one = |op: &ResponseOp| match &op.response {
        Some(Response::Range(range)) if range.kvs.len() == 1 => balance(&range.kvs[0]),
        Some(Response::Range(_) | Response::Put(_)) | None => bail!("an account is missing"),
    };
    match responses {
        [debit, credit] => Ok([one(debit)?, one(credit)?]),
        other => bail!("{} answers to two reads", other.len()),
    }
}

fn balance(pair: &KeyValue) -> anyhow::Result<Balance> {
    Ok(Balance {
        units: units(pair)?,
        revision: pair.mod_revision,
    })
}

/// The number that an account holds.
///
/// # Errors
/// It is none.
pub fn units(pair: &KeyValue) -> anyhow::Result<i64> {
    let text = str::from_utf8(&pair.value).context("a balance is not text")?;
    text.parse()
        .with_context(|| format!("balance {text:?} is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::messages::PutResponse;

    fn answer(value: &str, revision: i64) -> ResponseOp {
        let pair = KeyValue {
            key: Vec::new(),
            mod_revision: revision,
            value: value.as_bytes().to_vec(),
        };
        ResponseOp {
            response: Some(Response::Range(RangeResponse {
                kvs: vec![pair],
                count: 1,
            })),
        }
    }

    #[test]
    fn a_swap_holds_only_for_the_balances_that_were_read() {
        let [debit, credit] = balances(&[answer("100", 7), answer("5", 9)]).expect("two balances");
        let payment = Payment {
            id: 3,
            debit: 1,
            credit: 2,
            amount: 30,
        };
        let swap = swap(&payment, &debit, &credit);
        let revisions: Vec<_> = swap.compare.iter().map(|c| c.value.clone()).collect();
        let revision = |n| Some(Target::ModRevision(n));
        assert_eq!(revisions, [revision(7), revision(9)]);
        let put = |key: Vec<u8>, value: &str| put_op(key, value.to_owned());
        let puts = [
            put(account_key(1), "70"),
            put(account_key(2), "35"),
            put(transfer_key(3), "1 2 30"),
        ];
        assert_eq!(swap.success, puts);
    }

    #[test]
    fn answers_that_hold_no_balance_are_refused() {
        let put = ResponseOp {
            response: Some(Response::Put(PutResponse {})),
        };
        assert!(balances(&[answer("1", 1), put]).is_err());
        assert!(balances(&[answer("1", 1)]).is_err());
        assert!(balances(&[answer("1", 1), answer("much", 1)]).is_err());
    }
}
