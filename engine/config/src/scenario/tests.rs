//! What is read, and what each mistake is called.

use super::*;

const HEADER: &str = "Set Number,Transactions,Live Nodes\n";
const TWO_SETS: &str = "Set Number,Transactions,Live Nodes\n\
    1,\"(21, 700, 2)\",\"[n1, n2, n4]\"\n\
    ,F(n2),\n\
    ,(700),\n\
    ,R(n2),\n\
    7,(1),[n9]\n";

fn parse(text: &str) -> Result<Scenario, ScenarioError> {
    Scenario::parse(text.as_bytes(), "a.csv", &Bounds::default())
}

/// The error of these rows below a right header.
fn error_of(rows: &str) -> String {
    parse(&format!("{HEADER}{rows}")).unwrap_err().to_string()
}

#[test]
fn sets_rows_and_lines_are_read() {
    let node = NodeId;
    let expected = Scenario {
        sets: vec![
            Set {
                number: 1,
                live: [node(1), node(2), node(4)].into(),
                rows: vec![
                    Row {
                        line: 2,
                        step: Step::Transfer {
                            debit: AccountId(21),
                            credit: AccountId(700),
                            amount: 2,
                        },
                    },
                    Row {
                        line: 3,
                        step: Step::Fail { node: node(2) },
                    },
                    Row {
                        line: 4,
                        step: Step::Balance {
                            account: AccountId(700),
                        },
                    },
                    Row {
                        line: 5,
                        step: Step::Recover { node: node(2) },
                    },
                ],
            },
            Set {
                number: 7,
                live: [node(9)].into(),
                rows: vec![Row {
                    line: 6,
                    step: Step::Balance {
                        account: AccountId(1),
                    },
                }],
            },
        ],
    };
    assert_eq!(parse(TWO_SETS).unwrap(), expected);
    let controls = |set: &Set| set.rows.iter().filter(|row| row.step.is_control()).count();
    assert_eq!(controls(&expected.sets[0]), 2);
}

#[test]
fn spaces_line_ends_and_a_byte_order_mark_do_not_matter() {
    let expected = parse(TWO_SETS).unwrap();
    let same = [
        TWO_SETS.replace('\n', "\r\n"),
        format!("\u{feff}{TWO_SETS}"),
        TWO_SETS.replace(", ", ","),
        TWO_SETS.replace("F(n2)", "  F( n2 ) "),
        TWO_SETS.trim_end().to_owned(),
    ];
    for text in same {
        assert_eq!(parse(&text), Ok(expected.clone()), "{text}");
    }
}

#[test]
fn empty_lines_are_passed_over_and_counted() {
    let set = |text: &str| parse(text).unwrap().sets.remove(0);
    let lines = |text: &str| -> Vec<u64> { set(text).rows.iter().map(|row| row.line).collect() };
    let rows = "1,(1),[n1]\n\n\n,(2),\n";
    assert_eq!(lines(&format!("{HEADER}\n{rows}")), [3, 6]);
    assert_eq!(
        lines(&format!("{HEADER}{rows}").replace('\n', "\r\n")),
        [2, 5]
    );
    assert_eq!(
        lines(&format!("{HEADER}{rows}").replace('\n', "\r")),
        [2, 5]
    );
    let error = parse(&format!("\r\n{HEADER}\r\n1,(0),[n1]")).unwrap_err();
    assert_eq!(error.line, Some(4));
}

#[test]
fn a_step_prints_as_it_is_written() {
    for text in ["(21, 700, 2)", "(700)", "F(n2)", "R(n9)"] {
        let step = field::step(text, &Bounds::default()).unwrap();
        assert_eq!(step.to_string(), text);
    }
}

#[test]
fn what_the_engine_refuses_is_no_error_of_the_file() {
    let odd = format!("{HEADER}1,\"(5, 5, 0)\",[n1]\n,F(n3),\n,F(n3),\n");
    assert_eq!(parse(&odd).unwrap().sets[0].rows.len(), 3);
}

#[test]
fn each_mistake_is_named_with_its_line_and_column() {
    let cases = [
        ("", "a.csv: expected at least one set"),
        (
            ",(1),\n",
            "a.csv:2: Set Number: expected the number of the first set, found nothing",
        ),
        (
            "x,(1),[n1]\n",
            "a.csv:2: Set Number: expected a number from 1 to 4294967295, found \"x\"",
        ),
        (
            "0,(1),[n1]\n",
            "a.csv:2: Set Number: expected a number from 1 to 4294967295, found \"0\"",
        ),
        (
            "1,(1),[n1]\n1,(1),[n1]\n",
            "a.csv:3: Set Number: expected a number that no set has yet, found 1",
        ),
        (
            "1,(1),\n",
            "a.csv:2: Live Nodes: expected [n1, n2, ...], found nothing",
        ),
        (
            "1,(1),[]\n",
            "a.csv:2: Live Nodes: expected a node from n1 to n9, found nothing",
        ),
        (
            "1,(1),\"[n1, n10]\"\n",
            "a.csv:2: Live Nodes: expected a node from n1 to n9, found \"n10\"",
        ),
        (
            "1,(1),\"[n1, n1]\"\n",
            "a.csv:2: Live Nodes: expected each node once, found n1 twice",
        ),
        (
            "1,(1),[n1]\n,(1),[n1]\n",
            "a.csv:3: Live Nodes: expected nothing: only the first row of a set lists nodes",
        ),
        (
            "1,(1, 2, 3),[n1]\n",
            "a.csv:2: expected 3 fields, found 5; a field with commas stands in double quotes",
        ),
        (
            "1,\"(1, 2)\",[n1]\n",
            "a.csv:2: Transactions: expected (debit, credit, amount), (account), F(nX) or R(nX), \
             found \"(1, 2)\"",
        ),
        (
            "1,,[n1]\n",
            "a.csv:2: Transactions: expected (debit, credit, amount), (account), F(nX) or R(nX), \
             found nothing",
        ),
        (
            "1,(9001),[n1]\n",
            "a.csv:2: Transactions: expected an account from 1 to 9000, found \"9001\"",
        ),
        (
            "1,\"(1, 2, -3)\",[n1]\n",
            "a.csv:2: Transactions: expected an amount in whole units, found \"-3\"",
        ),
        (
            "1,\"(1, 2, +3)\",[n1]\n",
            "a.csv:2: Transactions: expected an amount in whole units, found \"+3\"",
        ),
        (
            "1,F(n0),[n1]\n",
            "a.csv:2: Transactions: expected a node from n1 to n9, found \"n0\"",
        ),
    ];
    for (rows, expected) in cases {
        assert_eq!(error_of(rows), expected);
    }
}

#[test]
fn a_wrong_header_is_named() {
    let error = |text: &str| parse(text).unwrap_err().to_string();
    let expected = "expected the header Set Number,Transactions,Live Nodes, found";
    assert_eq!(error(""), format!("a.csv: {expected} nothing"));
    assert_eq!(error("a,b\n"), format!("a.csv:1: {expected} \"a,b\""));
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_line() {
    let mut bytes = TWO_SETS.as_bytes().to_vec();
    let at = TWO_SETS.find("F(n2)").unwrap();
    bytes[at] = 0xFF;
    let error = Scenario::parse(&bytes, "a.csv", &Bounds::default()).unwrap_err();
    assert_eq!(error.to_string(), "a.csv:3: expected UTF-8, field 2 is not");
}

#[test]
fn an_error_does_not_repeat_a_long_field() {
    let error = error_of(&format!("1,{},[n1]\n", "z".repeat(10_000)));
    assert!(error.ends_with("zzz\"...") && error.len() < 300, "{error}");
}

#[test]
fn the_number_of_rows_and_of_bytes_is_bounded() {
    let rows = |count: usize| format!("{HEADER}1,(1),[n1]\n{}", ",(1),\n".repeat(count - 1));
    assert_eq!(parse(&rows(ROWS_MAX)).unwrap().sets[0].rows.len(), ROWS_MAX);
    let error = parse(&rows(ROWS_MAX + 1)).unwrap_err();
    let line = u64::try_from(ROWS_MAX).unwrap() + 2;
    assert_eq!(
        error.to_string(),
        format!("a.csv:{line}: expected at most {ROWS_MAX} rows")
    );
    let error = Scenario::parse(&vec![b' '; FILE_BYTES_MAX + 1], "a.csv", &Bounds::default());
    assert_eq!(
        error.unwrap_err().to_string(),
        format!("a.csv: expected at most {FILE_BYTES_MAX} bytes")
    );
}
