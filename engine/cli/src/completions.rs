//! `completions`: the text that a shell reads to complete commands and options. Made from the same
//! description as the help, so that it cannot lag behind it.

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

use crate::failure::{Failure, Outcome};
use crate::print::{self, Output};
use crate::{Cli, Context};

/// Options of `completions`.
#[derive(Args, Clone, Copy, Debug)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    pub shell: KnownShell,
}

/// Shells that the manual tells where to put the text.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

/// Prints the text.
pub fn run(args: CompletionsArgs, context: Context) -> Outcome {
    if context.output == Output::Machine {
        return Err(Failure::usage("completions are no JSON document"));
    }
    print::line(render(args.shell).trim_end())
}

fn render(shell: KnownShell) -> String {
    let shell = match shell {
        KnownShell::Bash => Shell::Bash,
        KnownShell::Zsh => Shell::Zsh,
        KnownShell::Fish => Shell::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "quorate", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn every_command_and_option_is_completed_in_every_shell() {
        for shell in [KnownShell::Bash, KnownShell::Zsh, KnownShell::Fish] {
            let text = render(shell);
            for word in ["reshard", "status", "top", "once", "log-format"] {
                assert!(text.contains(word), "{shell:?}: no {word}");
            }
        }
    }

    /// What bash does when somebody presses the tabulator key behind `words`.
    fn completed(words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let script = format!(
            "{}\nCOMP_WORDS=({})\nCOMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _quorate quorate \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
             echo \"${{COMPREPLY[*]}}\"\n",
            render(KnownShell::Bash),
            words.join(" "),
        );
        let mut bash = Command::new("bash")
            .args(["--norc", "-s"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        bash.stdin
            .take()
            .unwrap()
            .write_all(script.as_bytes())
            .unwrap();
        let done = bash.wait_with_output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn bash_completes_commands_and_options() {
        assert_eq!(completed(&["quorate", "stat"]), "status");
        assert_eq!(completed(&["quorate", "reshard", "repo"]), "report");
        assert_eq!(completed(&["quorate", "top", "--onc"]), "--once");
        assert_eq!(completed(&["quorate", "completions", "f"]), "fish");
    }
}
