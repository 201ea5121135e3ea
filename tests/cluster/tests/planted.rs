//! The programs that ship hold no planted bug: the twin packages with the switch are not in them.

#![forbid(unsafe_code)]

use std::fs;

use quorate_cluster_tests::binaries;

/// Symbols carry the name of the crate they come from.
const ORIGINAL: &[u8] = b"quorate_protocol";
const TWIN: &[u8] = b"quorate_protocol_planted";

fn holds(program: &[u8], name: &[u8]) -> bool {
    program.windows(name.len()).any(|window| window == name)
}

#[test]
fn no_program_that_ships_holds_a_planted_bug() {
    let binaries = binaries();
    for path in [&binaries.quorate, &binaries.bench] {
        let program = fs::read(path).expect("the program");
        assert!(holds(&program, ORIGINAL), "{} has symbols", path.display());
        assert!(!holds(&program, TWIN), "{}", path.display());
    }
    // The simulator shows that the name would be there. It need not be installed beside them.
    if let Ok(program) = fs::read(binaries.quorate.with_file_name("sim")) {
        assert!(holds(&program, TWIN), "the simulator has the switch");
    }
}
