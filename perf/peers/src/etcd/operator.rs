//! An etcd server as its operator sees it: filled, summed up, and its counters.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, ensure};

use super::bank::{EtcdBank, account_key, put_op, units};
use super::messages::{RangeRequest, TxnRequest};
use crate::money::Sums;

/// Puts per transaction; the server takes at most 128.
const PUTS_MAX: usize = 100;
/// Counts syncs of the write-ahead log.
const SYNCS_METRIC: &str = "etcd_disk_wal_fsync_duration_seconds_count";

/// Gives every account `funds`.
///
/// # Errors
/// The server fails, or is not empty.
pub fn fill(bank: &mut EtcdBank, accounts: u32, funds: i64) -> anyhow::Result<()> {
    let found = bank.range(all("", false))?.count;
    ensure!(found == 0, "etcd holds {found} keys, it has to be empty");
    let accounts: Vec<i64> = (1..=i64::from(accounts)).collect();
    for part in accounts.chunks(PUTS_MAX) {
        let put = |&account: &i64| put_op(account_key(account), funds.to_string());
        let request = TxnRequest {
            success: part.iter().map(put).collect(),
            ..TxnRequest::default()
        };
        bank.transact(request).context("fund accounts")?;
    }
    Ok(())
}

/// What the server holds.
///
/// # Errors
/// The server fails, or a balance is no number.
pub fn sums(bank: &mut EtcdBank) -> anyhow::Result<Sums> {
    let accounts = bank.range(all("account/", false))?;
    let mut sums = Sums::default();
    for pair in &accounts.kvs {
        let balance = units(pair)?;
        sums.accounts += 1;
        sums.balances += i128::from(balance);
        sums.negative += u64::from(balance < 0);
    }
    let transfers = bank.range(all("transfer/", true))?;
    sums.transfers = transfers.count.unsigned_abs();
    Ok(sums)
}

/// How often the server has synced its log.
///
/// # Errors
/// The server does not answer, or does not count.
pub fn syncs(endpoint: &str) -> anyhow::Result<u64> {
    let metrics = http_get(endpoint, "/metrics")?;
    counter(&metrics, SYNCS_METRIC).with_context(|| format!("etcd does not tell {SYNCS_METRIC}"))
}

/// The server's name and version.
///
/// # Errors
/// The server does not answer.
pub fn version(endpoint: &str) -> anyhow::Result<String> {
    let text = http_get(endpoint, "/version")?;
    let answer: serde_json::Value = serde_json::from_str(&text).context("version of etcd")?;
    let version = answer["etcdserver"].as_str().context("version of etcd")?;
    Ok(format!("etcd {version}"))
}

/// All keys with a prefix; all keys if it is empty.
fn all(prefix: &str, count_only: bool) -> RangeRequest {
    let (key, range_end) = match prefix.as_bytes() {
        // By the interface's rule, a zero byte on both sides is everything.
        [] => (vec![0], vec![0]),
        [start @ .., last] => {
            let mut end = start.to_vec();
            end.push(last + 1);
            (prefix.as_bytes().to_vec(), end)
        }
    };
    RangeRequest {
        key,
        range_end,
        serializable: false,
        count_only,
    }
}

/// HTTP 1.0, so that the server neither chunks the answer nor keeps the connection.
fn http_get(endpoint: &str, path: &str) -> anyhow::Result<String> {
    let get = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(endpoint)?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {endpoint}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = get().with_context(|| format!("get {path} of etcd at {endpoint}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let first = head.lines().next().unwrap_or_default();
    ensure!(first.contains(" 200 "), "get {path} of etcd: {first}");
    Ok(body.to_owned())
}

/// The value of a counter without labels in the text format of Prometheus.
fn counter(metrics: &str, name: &str) -> Option<u64> {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let metrics = "# TYPE a_count counter\na_count_total 1\na_count 42\nb{x=\"y\"} 3\n";
        assert_eq!(counter(metrics, "a_count"), Some(42));
        assert_eq!(counter(metrics, "a"), None);
        assert_eq!(counter(metrics, "c"), None);
    }

    #[test]
    fn a_range_over_a_prefix_ends_behind_it() {
        let range = all("account/", true);
        assert_eq!(range.key, b"account/");
        assert_eq!(range.range_end, b"account0");
        assert!(range.range_end.as_slice() > account_key(i64::from(u32::MAX)).as_slice());
        assert_eq!(all("", false).range_end, [0]);
    }
}
