//! Traces from strangers: what is read, and that every refusal names file, line and field.

use quorate_planner::Trace;
use quorate_planner::trace::TraceTransfer;
use quorate_protocol::ids::AccountId;

fn parse(text: &str) -> Result<Trace, String> {
    Trace::parse("t.csv", text.as_bytes()).map_err(|e| e.to_string())
}

fn rows(body: &str) -> Result<Trace, String> {
    parse(&format!("timestamp,src,dst,amount\n{body}"))
}

#[test]
fn accounts_are_numbered_from_one_and_amounts_are_whole_millionths() {
    let trace = rows("5,0,1,0.999097\n5,2,3,0\n6,10,2,5e-12\n7,3,0,1000\n").unwrap();
    let expected = [
        (5.0, 1, 2, 999_097),
        (5.0, 3, 4, 1),
        (6.0, 11, 3, 1),
        (7.0, 4, 1, 1_000_000_000),
    ];
    let expected = expected.map(|(timestamp, debit, credit, amount)| TraceTransfer {
        timestamp,
        debit: AccountId(debit),
        credit: AccountId(credit),
        amount,
    });
    assert_eq!(trace.transfers(), expected);
}

#[test]
fn rows_are_put_in_time_order_and_keep_their_order_within_an_instant() {
    let trace = rows("9,0,1,1\n3,1,2,1\n9,2,3,1\r\n 3 , 3 , 4 , 1 ").unwrap();
    let debits: Vec<u128> = trace.transfers().iter().map(|t| t.debit.0).collect();
    assert_eq!(debits, [2, 4, 1, 3]);
}

#[test]
fn refusals_name_the_place() {
    let cases = [
        ("", "t.csv: no transfers"),
        ("timestamp,src,dst,amount\n", "t.csv: no transfers"),
        (
            "time,src,dst,amount\n1,0,1,1\n",
            "t.csv: line 1: header is \"time,src,dst,amount\", not \"timestamp,src,dst,amount\"",
        ),
        (
            "timestamp,src,dst\n1,0,1\n",
            "t.csv: line 1: header is \"timestamp,src,dst\", not \"timestamp,src,dst,amount\"",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(parse(text).unwrap_err(), message);
    }
    let cases = [
        ("1,0,1,1\n1,0,1\n", "t.csv: line 3: 3 fields, not 4"),
        ("1,0,1,1,9\n", "t.csv: line 2: 5 fields, not 4"),
        (
            "x,0,1,1\n",
            "t.csv: line 2: field timestamp: not a number of at least 0, found \"x\"",
        ),
        (
            "1,0,1,1\n\n-1,0,1,1\n",
            "t.csv: line 4: field timestamp: not a number of at least 0, found \"-1\"",
        ),
        (
            "1,a,1,1\n",
            "t.csv: line 2: field src: not a whole number from 0 to 2^64 - 1, found \"a\"",
        ),
        (
            "1,0,-1,1\n",
            "t.csv: line 2: field dst: not a whole number from 0 to 2^64 - 1, found \"-1\"",
        ),
        (
            "1,0,18446744073709551616,1\n",
            "t.csv: line 2: field dst: not a whole number from 0 to 2^64 - 1, found \"18446744073709551616\"",
        ),
        (
            "1,7,7,1\n",
            "t.csv: line 2: field dst: the same account as src, found \"7\"",
        ),
        (
            "1,0,1,\n",
            "t.csv: line 2: field amount: not a number of at least 0, found \"\"",
        ),
        (
            "1,0,1,NaN\n",
            "t.csv: line 2: field amount: not a number of at least 0, found \"NaN\"",
        ),
        (
            "1,0,1,-3\n",
            "t.csv: line 2: field amount: not a number of at least 0, found \"-3\"",
        ),
        (
            "1,0,1,1e13\n",
            "t.csv: line 2: field amount: above 2^63 millionths, found \"1e13\"",
        ),
        (
            "1,0,1,1e9223372036854775807\n",
            "t.csv: line 2: field amount: not a number of at least 0, found \"1e9223372036854775807\"",
        ),
    ];
    for (body, message) in cases {
        assert_eq!(rows(body).unwrap_err(), message);
    }
    let error = Trace::parse("t.csv", &b"timestamp,src,dst,amount\n1,0,\xff,1\n"[..]).unwrap_err();
    assert!(
        error.to_string().starts_with("t.csv: line 2: field dst: "),
        "{error}"
    );
    let long = format!("1,0,1,{}", "0".repeat(1019));
    assert_eq!(
        rows(&long).unwrap_err(),
        "t.csv: line 2: longer than 1024 bytes"
    );
    assert!(
        rows(&long[1..])
            .unwrap_err()
            .contains("line 2: field timestamp")
    );
    let missing = Trace::open(std::path::Path::new("no/such/file.csv")).unwrap_err();
    assert!(
        missing.to_string().starts_with("no/such/file.csv: "),
        "{missing}"
    );
}

/// By way of a binary float some halves came out below: 70 amounts of a real trace were one unit short.
#[test]
fn amounts_are_exact_and_halves_go_up() {
    for (text, units) in [
        ("0", 1),
        ("5e-12", 1),
        ("0.0000005", 1),
        ("0.0000014", 1),
        ("0.0000015", 2),
        ("1.0000005", 1_000_001),
        ("4.0000035", 4_000_004),
        ("8.0000045", 8_000_005),
        ("0.1", 100_000),
        (".25", 250_000),
        ("3.", 3_000_000),
        ("+2", 2_000_000),
        ("1234.5678", 1_234_567_800),
        ("12e3", 12_000_000_000),
        ("12.5E+1", 125_000_000),
        ("9223372036854.775808", 1 << 63),
        ("0e999999999", 1),
        // Sums with these left 64 bits: the program was aborted.
        ("0e9223372036854775806", 1),
        ("0e99999999999999999999", 1),
        ("7e-9223372036854775808", 1),
        ("7e-99999999999999999999", 1),
        ("0.00000000000000000000000000005e+29", 5_000_000),
    ] {
        let trace = rows(&format!("1,0,1,{text}\n")).unwrap();
        assert_eq!(trace.transfers()[0].amount, units, "{text}");
    }
}

/// A file of random bytes wrote them to the terminal, and a byte order mark gave two headers that looked the same.
#[test]
fn what_was_found_is_shown_escaped_and_not_at_length() {
    let marked = parse("\u{feff}timestamp,src,dst,amount\n1,0,1,1\n").unwrap_err();
    assert!(marked.contains("\\u{feff}timestamp"), "{marked}");
    let long = parse(&format!("\u{1b}[2J{}\n", "x".repeat(900))).unwrap_err();
    assert!(!long.contains('\u{1b}') && long.len() < 200, "{long}");
    let field = rows("1,0,1,\u{1b}[31m\n").unwrap_err();
    assert!(field.ends_with("found \"\\u{1b}[31m\""), "{field}");
}

#[test]
fn the_largest_account_number_is_read() {
    let trace = rows("1,18446744073709551615,0,1\n").unwrap();
    assert_eq!(trace.transfers()[0].debit, AccountId(1 << 64));
}
