//! The checked-in corpus: written by a command from the real encoders, and every input of it holds.
//!
//! `QUORATE_BLESS=1 cargo test -p quorate-fuzz --test corpus` writes what is missing or has changed.
//! Inputs that were found by fuzzing lie beside and are never overwritten: give them a name.

use std::path::PathBuf;

use quorate_fuzz::{TARGETS, Target, Verdict, seeds};

fn directory(target: &Target) -> PathBuf {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");
    PathBuf::from(corpus).join(target.name)
}

#[test]
fn every_checked_in_input_holds() {
    for target in &TARGETS {
        if std::env::var_os("QUORATE_BLESS").is_some() {
            std::fs::create_dir_all(directory(target)).expect("the directory");
            for (name, bytes) in seeds::of(target.name) {
                std::fs::write(directory(target).join(name), bytes).expect("a file");
            }
        }
        let (mut taken, mut refused) = (0, 0);
        for file in std::fs::read_dir(directory(target)).expect("the corpus is checked in") {
            let bytes = std::fs::read(file.expect("a file").path()).expect("a file");
            match (target.run)(&bytes) {
                Verdict::Taken => taken += 1,
                Verdict::Refused => refused += 1,
            }
        }
        let name = target.name;
        assert!(
            taken >= 3 && refused >= 1,
            "{name}: {taken} taken, {refused} refused"
        );
    }
}

#[test]
fn what_the_encoders_write_is_taken_and_has_its_place_in_the_corpus() {
    for target in &TARGETS {
        for (name, bytes) in seeds::of(target.name) {
            let is_nasty = name.starts_with("nasty_");
            let verdict = (target.run)(&bytes);
            assert!(
                is_nasty || verdict == Verdict::Taken || name == "formatted",
                "{name}"
            );
        }
    }
}
