//! The fields of a scenario row. Each parser says what it expected and what it found.

use std::collections::BTreeSet;

use quorate_protocol::ids::{AccountId, NodeId};

use super::{Bounds, Step};

/// Characters of a field that an error repeats.
const FOUND_CHARS_MAX: usize = 60;

/// A field as an error shows it.
pub(super) fn quoted(field: &str) -> String {
    if field.is_empty() {
        return "nothing".to_owned();
    }
    let cut: String = field.chars().take(FOUND_CHARS_MAX).collect();
    match cut.len() == field.len() {
        true => format!("{cut:?}"),
        false => format!("{cut:?}..."),
    }
}

pub(super) fn set_number(field: &str) -> Result<u32, String> {
    let number = digits(field).and_then(|digits| digits.parse::<u32>().ok());
    number.filter(|&number| number > 0).ok_or_else(|| {
        format!(
            "expected a number from 1 to {}, found {}",
            u32::MAX,
            quoted(field)
        )
    })
}

/// `[n1, n2, ...]`
pub(super) fn nodes(field: &str, nodes: u32) -> Result<BTreeSet<NodeId>, String> {
    let refuse = || format!("expected [n1, n2, ...], found {}", quoted(field));
    let list = between(field, "[", "]").ok_or_else(refuse)?;
    let mut live = BTreeSet::new();
    for name in list.split(',') {
        let node = node(name.trim(), nodes)?;
        if !live.insert(node) {
            return Err(format!("expected each node once, found n{} twice", node.0));
        }
    }
    Ok(live)
}

/// `(debit, credit, amount)`, `(account)`, `F(nX)` or `R(nX)`.
pub(super) fn step(field: &str, bounds: &Bounds) -> Result<Step, String> {
    if let Some(name) = between(field, "F(", ")") {
        let node = node(name.trim(), bounds.nodes)?;
        return Ok(Step::Fail { node });
    }
    if let Some(name) = between(field, "R(", ")") {
        let node = node(name.trim(), bounds.nodes)?;
        return Ok(Step::Recover { node });
    }
    let refuse = || {
        let found = quoted(field);
        format!("expected (debit, credit, amount), (account), F(nX) or R(nX), found {found}")
    };
    let inner = between(field, "(", ")").ok_or_else(refuse)?;
    let mut parts = inner.split(',').map(str::trim);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(one), None, None, None) => Ok(Step::Balance {
            account: account(one, bounds)?,
        }),
        (Some(debit), Some(credit), Some(units), None) => Ok(Step::Transfer {
            debit: account(debit, bounds)?,
            credit: account(credit, bounds)?,
            amount: amount(units)?,
        }),
        _ => Err(refuse()),
    }
}

fn node(name: &str, nodes: u32) -> Result<NodeId, String> {
    let number = name.strip_prefix('n').and_then(digits);
    let number = number.and_then(|digits| digits.parse::<u32>().ok());
    number
        .filter(|number| (1..=nodes).contains(number))
        .map(NodeId)
        .ok_or_else(|| {
            format!(
                "expected a node from n1 to n{nodes}, found {}",
                quoted(name)
            )
        })
}

fn account(text: &str, bounds: &Bounds) -> Result<AccountId, String> {
    let number = digits(text).and_then(|digits| digits.parse::<u128>().ok());
    let accounts = bounds.accounts;
    number
        .filter(|number| (1..=accounts).contains(number))
        .map(AccountId)
        .ok_or_else(|| {
            format!(
                "expected an account from 1 to {accounts}, found {}",
                quoted(text)
            )
        })
}

fn amount(text: &str) -> Result<u128, String> {
    digits(text)
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| format!("expected an amount in whole units, found {}", quoted(text)))
}

/// The text if it is decimal digits alone: parsing a number would also take a sign.
fn digits(text: &str) -> Option<&str> {
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then_some(text)
}

fn between<'a>(field: &'a str, open: &str, close: &str) -> Option<&'a str> {
    field.strip_prefix(open)?.strip_suffix(close)
}
