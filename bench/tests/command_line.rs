//! The binary as scripts see it: exit codes, what is on stdout, errors that name the field.

use std::fs;
use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate-bench"))
        .args(arguments)
        .env_remove("QUORATE_CLUSTER")
        .output()
        .expect("the binary was built for this test")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_is_complete_and_succeeds() {
    for command in ["run", "audit", "locality", "saturate"] {
        let output = bench(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("--file <cluster.toml>"), "{text}");
        assert!(text.contains("--json"), "{text}");
    }
}

#[test]
fn bad_usage_exits_with_2_names_the_field_and_leaves_stdout_empty() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let missing = path("missing.toml");
    let broken = path("broken.toml");
    fs::write(&broken, "cluster_id = 1\nshard = 3\n").unwrap();
    let cases: [(&[&str], &[&str]); 5] = [
        (
            &["run", "-f", &missing, "--workload", "uniform"],
            &["missing.toml"],
        ),
        (
            &["run", "-f", &broken, "--workload", "uniform"],
            &["broken.toml:2", "shard"],
        ),
        (&["run", "--workload", "uniform"], &["--file"]),
        (
            &[
                "run",
                "-f",
                &missing,
                "--workload",
                "uniform",
                "--batch",
                "9000",
            ],
            &["--batch"],
        ),
        (&["audit", "-f", &missing], &["--acked"]),
    ];
    for (arguments, parts) in cases {
        let output = bench(arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        for part in parts {
            assert!(
                text.contains(part),
                "{arguments:?}: {part} is missing in {text}"
            );
        }
    }
}
