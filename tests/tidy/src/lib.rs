//! What the tidy tests share: where the tree is, which files it holds, and Rust text without
//! comments and literals.
//!
//! The rules themselves are in `tests/`: `edges.rs` for crates, `sources.rs` for files.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

/// Names below the root that are never ours to check.
const SKIPPED: [&str; 2] = ["target", ".git"];

/// A text file of the tree.
#[derive(Debug)]
pub struct SourceFile {
    /// Relative to the root, with `/`.
    pub path: String,
    pub text: String,
}

/// The workspace's root: this crate lies two levels below it.
///
/// # Panics
/// If the tree has another shape.
#[must_use]
pub fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("tests/tidy has two ancestors");
    assert!(
        root.join("Cargo.lock").exists(),
        "{} is the root",
        root.display()
    );
    root.to_path_buf()
}

/// Every file below the root whose text is UTF-8, ascending by path.
///
/// # Panics
/// If a directory cannot be read.
#[must_use]
pub fn files() -> Vec<SourceFile> {
    let root = root();
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The files that end in `.rs`.
#[must_use]
pub fn rust_files() -> Vec<SourceFile> {
    files()
        .into_iter()
        .filter(|file| file.path.ends_with(".rs"))
        .collect()
}

fn collect(root: &Path, directory: &Path, found: &mut Vec<SourceFile>) {
    let entries = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("read {}: {error}", directory.display()));
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // In a second working tree `.git` is a file.
        if SKIPPED.contains(&&*name) {
            continue;
        }
        if path.is_dir() {
            // Build directories may have other names than `target`; cargo tags them.
            if !path.join("CACHEDIR.TAG").exists() {
                collect(root, &path, found);
            }
        } else if let Ok(text) = fs::read_to_string(&path) {
            let relative = path.strip_prefix(root).expect("below the root");
            found.push(SourceFile {
                path: relative.to_string_lossy().replace('\\', "/"),
                text,
            });
        }
    }
}

/// Rust text with every comment and every string or character literal replaced by a space.
///
/// Good enough to ask which words a program uses; it is not a parser. Line breaks are kept, so
/// line numbers stay right.
#[must_use]
pub fn code_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = literal_or_comment(rest);
        if skipped == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            // An identifier that ends in `r` or `b` does not start a literal.
            if is_word(first) {
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let prefix_ends_here = first == 'r' || first == 'b';
                if !prefix_ends_here || end > 1 {
                    out.push_str(&rest[..end]);
                    rest = &rest[end..];
                }
            }
        } else {
            out.push(' ');
            out.extend(rest[..skipped].chars().filter(|&c| c == '\n'));
            rest = &rest[skipped..];
        }
    }
    out
}

/// Whether `word` occurs as a whole word.
#[must_use]
pub fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        !code[..at].chars().next_back().is_some_and(is_word)
            && !code[at + word.len()..].chars().next().is_some_and(is_word)
    })
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Bytes of the comment or literal that `rest` starts with; 0 if it starts with neither.
fn literal_or_comment(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    let unprefixed = rest.trim_start_matches(['b', 'r']);
    let prefix = rest.len() - unprefixed.len();
    if prefix > 2 {
        return 0;
    }
    let hashes = unprefixed.len() - unprefixed.trim_start_matches('#').len();
    if rest[..prefix].contains('r') && unprefixed[hashes..].starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        let body = &unprefixed[hashes + 1..];
        let length = body.find(&end).map_or(body.len(), |at| at + end.len());
        return prefix + hashes + 1 + length;
    }
    if unprefixed.starts_with('"') {
        return prefix + quoted(unprefixed, '"');
    }
    if unprefixed.starts_with('\'') {
        let length = quoted(unprefixed, '\'');
        // `'a` of a lifetime has no closing quote within a character's length ('\u{10ffff}').
        let body = &unprefixed[..length];
        let one = body.chars().count() == 3 || body.starts_with("'\\");
        return if one && length > 2 {
            prefix + length
        } else {
            0
        };
    }
    0
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_hide_words() {
        let text = "let a = \"unsafe\"; // unsafe\n/* unsafe /* deep */ unsafe */ let b = r#\"unsafe \" unsafe\"#;\nlet c = b'\\''; 'x: loop { break 'x }";
        let code = code_only(text);
        assert!(!has_word(&code, "unsafe"), "{code}");
        assert!(
            has_word(&code, "loop") && has_word(&code, "break"),
            "{code}"
        );
        assert_eq!(code.lines().count(), text.lines().count());
    }

    #[test]
    fn words_are_whole() {
        let code = code_only("#![forbid(unsafe_code)] fn f() { unsafe { g::<'static>('\"') } }");
        assert!(has_word(&code, "unsafe") && has_word(&code, "unsafe_code"));
        assert!(!has_word(&code, "safe"));
        assert!(!has_word(&code_only("#![forbid(unsafe_code)]"), "unsafe"));
        assert!(has_word(&code_only("number\"text\" unsafe"), "unsafe"));
    }
}
