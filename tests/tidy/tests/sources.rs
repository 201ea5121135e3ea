//! What every source file keeps: headers, ASCII, no `unsafe` outside its place, no machine paths.

#![forbid(unsafe_code)]

use quorate_tidy::{SourceFile, code_only, files, has_word, root, rust_files};

/// The only file that may hold `unsafe`, each block with its SAFETY comment: the map of a file.
const UNSAFE_FILES: &[&str] = &["storage/src/mmap.rs"];

/// Above this many lines a file's header says why it is still one idea.
const LINES_MAX: usize = 800;

#[test]
fn every_file_opens_with_its_purpose() {
    for file in rust_files() {
        assert!(
            file.text.starts_with("//! "),
            "{} opens without `//! `",
            file.path
        );
    }
}

#[test]
fn long_files_say_why() {
    for file in rust_files() {
        let lines = file.text.lines().count();
        let header: String = file
            .text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .collect();
        assert!(
            lines <= LINES_MAX || header.contains("one idea"),
            "{} has {lines} lines and does not say why it is still one idea",
            file.path
        );
    }
}

#[test]
fn sources_are_ascii() {
    let is_source = |file: &SourceFile| {
        let path = &file.path;
        path.ends_with(".rs") || path.ends_with(".toml") || path.starts_with("scripts/")
    };
    for file in files().into_iter().filter(is_source) {
        for (number, line) in file.text.lines().enumerate() {
            assert!(line.is_ascii(), "{}:{}: {line}", file.path, number + 1);
        }
    }
}

#[test]
fn unsafe_stays_in_its_place() {
    for file in rust_files() {
        let code = code_only(&file.text);
        let allowed = UNSAFE_FILES.contains(&file.path.as_str());
        assert!(
            allowed || !has_word(&code, "unsafe"),
            "{} uses unsafe",
            file.path
        );
        if allowed {
            let blocks = code.lines().filter(|line| has_word(line, "unsafe")).count();
            let reasons = file.text.matches("// SAFETY:").count();
            assert!(
                reasons >= blocks,
                "{}: {blocks} uses, {reasons} reasons",
                file.path
            );
        }
    }
}

#[test]
fn the_core_is_no_std_and_safe() {
    let core =
        std::fs::read_to_string(root().join("engine/protocol/src/lib.rs")).expect("protocol");
    let code = code_only(&core);
    assert!(code.contains("#![no_std]") && code.contains("#![forbid(unsafe_code)]"));
    let is_shipped = |file: &&SourceFile| {
        let path = &file.path;
        let is_test = path.contains("/tests/") || path.ends_with("tests.rs");
        path.starts_with("engine/protocol/src/") && !is_test
    };
    for file in rust_files().iter().filter(is_shipped) {
        // Unit tests may use std; nothing before them may.
        let shipped = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        assert!(
            !has_word(&code_only(shipped), "std"),
            "{} names std",
            file.path
        );
    }
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    // Spelt in two parts, so that this file passes its own rule.
    let places = [
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("/wo", "rk/"),
    ];
    for file in files() {
        for (number, line) in file.text.lines().enumerate() {
            for place in places {
                assert!(
                    !line.contains(place),
                    "{}:{}: {line}",
                    file.path,
                    number + 1
                );
            }
        }
    }
}

#[test]
fn nothing_is_left_for_later_in_code() {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("X", "XX"),
    ];
    for file in rust_files() {
        for (number, line) in file.text.lines().enumerate() {
            let marked = marks.iter().any(|mark| has_word(line, mark));
            assert!(!marked, "{}:{}: {line}", file.path, number + 1);
        }
    }
}

#[test]
fn the_documents_are_there() {
    let licence = std::fs::read_to_string(root().join("LICENSE")).expect("LICENSE");
    assert!(licence.contains("Apache License") && licence.contains("Version 2.0"));
    for path in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/glossary.md",
        "docs/testing.md",
        "docs/reference/result-codes.md",
    ] {
        let text = std::fs::read_to_string(root().join(path)).unwrap_or_default();
        assert!(text.starts_with("# "), "{path} is missing or has no title");
    }
}

#[test]
fn the_glossary_names_what_the_code_names() {
    let glossary = std::fs::read_to_string(root().join("docs/glossary.md")).expect("glossary");
    let code: String = rust_files()
        .iter()
        .map(|file| code_only(&file.text))
        .collect();
    let mut checked = 0;
    for row in glossary
        .lines()
        .filter(|line| line.starts_with("| ") && !line.contains("*(later)*"))
    {
        let names = row.split('|').nth(2).unwrap_or_default();
        for quoted in names.split('`').skip(1).step_by(2) {
            let plain = |word: &&str| !word.is_empty() && *word != "paxos";
            for word in quoted
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .filter(plain)
            {
                checked += 1;
                assert!(code.contains(word), "no `{word}` in the code: {row}");
            }
        }
    }
    assert!(
        checked > 50,
        "only {checked} names were found in the glossary"
    );
}
