//! `cluster logs`: the end of each node's log file.

use std::fmt::Write;

use clap::Args;
use serde_json::json;

use crate::Context;
use crate::failure::Outcome;
use crate::node_process::{log_end, log_file};
use crate::target::{ClusterFile, NodeChoice};

/// Options of `cluster logs`.
#[derive(Args, Debug)]
pub struct LogsArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    #[command(flatten)]
    pub choice: NodeChoice,
    /// Lines per node, counted from the end
    #[arg(short = 'n', long, default_value_t = 50)]
    pub lines: usize,
}

/// Prints the lines, each with its node.
pub fn run(args: &LogsArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let nodes = args.choice.of(&config)?;
    let logs: Vec<_> = nodes
        .iter()
        .map(|node| (node.id, log_file(node), log_end(node, 0, args.lines)))
        .collect();
    let document = logs
        .iter()
        .map(|(id, path, lines)| {
            json!({ "node": id.0, "path": path.display().to_string(), "lines": lines })
        })
        .collect();
    context.output.print(&document, || {
        let mut text = String::new();
        for (id, _, lines) in &logs {
            for line in lines {
                writeln!(text, "n{id} | {line}").expect("writing to a string cannot fail");
            }
        }
        text
    })
}
