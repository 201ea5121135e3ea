//! The table of planted bugs in `docs/testing.md`: made by a command, between two marks.

use super::search::Search;

/// The line before the table.
pub const BEGIN: &str = "<!-- planted bugs: made by `sim --bugs --seeds 0..1000 --into` -->";
/// The line behind it.
pub const END: &str = "<!-- planted bugs: end -->";

/// One row per search.
#[must_use]
pub fn markdown(searches: &[Search]) -> String {
    let mut text = String::from(
        "| planted bug | what the code does wrong | found at seed | found by | seconds |\n\
         | --- | --- | ---: | --- | ---: |\n",
    );
    for search in searches {
        let (seed, by) = match &search.find {
            Some(find) => (find.seed.to_string(), find.by.as_str()),
            None => (format!("not in {}", search.tried), "-"),
        };
        let (bug, seconds) = (&search.bug, search.seconds);
        text.push_str(&format!(
            "| `{}` | {} | {seed} | {by} | {seconds:.1} |\n",
            bug.name, bug.line
        ));
    }
    text
}

/// `document` with the text between the marks replaced; `None` if they are not there.
#[must_use]
pub fn replace(document: &str, table: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::super::list::ALL;
    use super::*;

    const TESTING: &str = include_str!("../../../../docs/testing.md");

    #[test]
    fn the_document_shows_every_bug_and_where_it_was_found() {
        let (_, rest) = TESTING.split_once(BEGIN).expect("the first mark");
        let (table, _) = rest.split_once(END).expect("the second mark");
        let rows: Vec<&str> = table
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        assert_eq!(rows.len(), ALL.len());
        for (row, bug) in rows.iter().zip(ALL) {
            let cells: Vec<&str> = row.split(" | ").collect();
            assert_eq!(cells[0], format!("| `{}`", bug.name));
            assert_eq!(cells[1], bug.line);
            let seed: u64 = cells[2].parse().expect("a seed: the bug was found");
            assert!(seed < 1_000, "{row}");
        }
    }

    #[test]
    fn only_what_lies_between_the_marks_is_replaced() {
        let document = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let replaced = replace(&document, "new\n").expect("marks");
        assert_eq!(replaced, format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n"));
        assert_eq!(replace(&replaced, "new\n"), Some(replaced));
        assert_eq!(replace("no marks", "new"), None);
    }
}
