//! `result-codes`: the closed list of outcomes, in the order in which they are checked.
//!
//! `docs/reference/result-codes.md` holds the same list; a test below keeps it true.

use quorate_protocol::ledger::{CodeKind, ResultCode};
use serde_json::{Value, json};

use crate::Context;
use crate::failure::Outcome;
use crate::print::table;

/// Prints the list.
pub fn run(context: Context) -> Outcome {
    let document: Value = ResultCode::ALL
        .iter()
        .map(|&code| json!({ "code": code as u16, "name": code.name(), "kind": kind(code) }))
        .collect();
    context.output.print(&document, || {
        let mut table = table(&["code", "name", "kind"]);
        for &code in ResultCode::ALL {
            table.add_row([
                (code as u16).to_string(),
                code.name().to_owned(),
                kind(code).to_owned(),
            ]);
        }
        table.to_string()
    })
}

fn kind(code: ResultCode) -> &'static str {
    match code.kind() {
        CodeKind::Success => "success",
        CodeKind::Malformed => "malformed",
        CodeKind::Recorded => "recorded",
        CodeKind::Used => "used",
        CodeKind::Expired => "expired",
        CodeKind::Unlogged => "unlogged",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Run with `QUORATE_REWRITE=1` to write the page anew.
    #[test]
    fn the_reference_page_lists_exactly_these_codes() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/reference/result-codes.md"
        );
        let mut rows = String::from("| code | name | kind |\n| --- | --- | --- |\n");
        for &code in ResultCode::ALL {
            rows += &format!("| {} | `{}` | {} |\n", code as u16, code.name(), kind(code));
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        let head = page.split("| code |").next().unwrap_or_default();
        let expected = format!("{head}{rows}");
        if std::env::var_os("QUORATE_REWRITE").is_some() {
            std::fs::write(path, &expected).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            page == expected,
            "docs/reference/result-codes.md differs from ResultCode::ALL"
        );
    }

    #[test]
    fn numbers_rise_in_checking_order() {
        assert!(ResultCode::ALL.is_sorted_by_key(|&code| code as u16));
    }
}
