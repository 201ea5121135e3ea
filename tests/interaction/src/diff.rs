//! Two lists of lines side by side: what was expected and is not there, what is there and was not
//! expected.

/// A readable difference: `-` for lines that were expected, `+` for lines that came instead, and the
/// unchanged lines between them. Empty if the lists are equal.
#[must_use]
pub fn diff(expected: &[String], actual: &[String]) -> Vec<String> {
    if expected == actual {
        return Vec::new();
    }
    let common = longest_common(expected, actual);
    let (mut left, mut right) = (0, 0);
    let mut lines = Vec::new();
    for (i, j) in common.into_iter().chain([(expected.len(), actual.len())]) {
        lines.extend(expected[left..i].iter().map(|line| format!("- {line}")));
        lines.extend(actual[right..j].iter().map(|line| format!("+ {line}")));
        if let Some(line) = expected.get(i) {
            lines.push(format!("  {line}"));
        }
        (left, right) = (i + 1, j + 1);
    }
    lines
}

/// Positions of a longest common subsequence, ascending in both. Quadratic; outputs are short.
fn longest_common(a: &[String], b: &[String]) -> Vec<(usize, usize)> {
    let mut length = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            length[i][j] = if a[i] == b[j] {
                length[i + 1][j + 1] + 1
            } else {
                length[i + 1][j].max(length[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut common = Vec::new();
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            common.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if length[i + 1][j] >= length[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn equal_lists_have_no_difference() {
        assert!(diff(&lines("a b c"), &lines("a b c")).is_empty());
        assert!(diff(&[], &[]).is_empty());
    }

    #[test]
    fn a_changed_line_is_shown_between_its_neighbours() {
        let told = diff(&lines("a b c d"), &lines("a x c"));
        assert_eq!(told, ["  a", "- b", "+ x", "  c", "- d"]);
        assert_eq!(diff(&[], &lines("a")), ["+ a"]);
    }
}
