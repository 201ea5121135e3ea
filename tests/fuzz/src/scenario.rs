//! Scenario files.

use std::fmt::Write;

use quorate_config::scenario::{Bounds, COLUMNS, Scenario};

use crate::Verdict;

const NAME: &str = "fuzz.csv";

/// Reads a scenario.
///
/// # Panics
/// If a property does not hold.
pub fn run(bytes: &[u8]) -> Verdict {
    let bounds = Bounds::default();
    let ends = bytes.iter().filter(|byte| b"\r\n".contains(byte));
    let lines = 1 + ends.count() as u64;
    match Scenario::parse(bytes, NAME, &bounds) {
        Ok(scenario) => {
            let rows = scenario.sets.iter().flat_map(|set| &set.rows);
            let places: Vec<u64> = rows.map(|row| row.line).collect();
            assert!(
                places.is_sorted_by(|one, next| one < next),
                "one row a line"
            );
            assert!(places.iter().all(|line| (2..=lines).contains(line)));
            renders_to_itself(&scenario, &bounds);
            Verdict::Taken
        }
        Err(error) => {
            assert_eq!(error.file, NAME);
            assert!(error.line.is_none_or(|line| (1..=lines).contains(&line)));
            assert!(error.column.is_empty() || COLUMNS.contains(&error.column));
            assert!(error.problem.starts_with("expected "), "{error}");
            assert!(error.problem.len() < 700, "{error}");
            Verdict::Refused
        }
    }
}

fn renders_to_itself(scenario: &Scenario, bounds: &Bounds) {
    let text = render(scenario);
    let again = Scenario::parse(text.as_bytes(), NAME, bounds);
    let mut again = again.unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut expected = scenario.clone();
    let all = expected.sets.iter_mut().chain(&mut again.sets);
    // Lines may differ: the file may have had empty ones, or quoted line ends.
    all.flat_map(|set| &mut set.rows)
        .for_each(|row| row.line = 0);
    assert_eq!(again, expected);
}

/// The plainest file that reads as this scenario.
fn render(scenario: &Scenario) -> String {
    let mut text = COLUMNS.join(",") + "\n";
    for set in &scenario.sets {
        let nodes: Vec<String> = set.live.iter().map(|node| format!("n{}", node.0)).collect();
        let (mut number, mut live) = (set.number.to_string(), format!("[{}]", nodes.join(", ")));
        for row in &set.rows {
            writeln!(text, "{number},\"{}\",\"{live}\"", row.step).expect("a string takes all");
            number.clear();
            live.clear();
        }
    }
    text
}
