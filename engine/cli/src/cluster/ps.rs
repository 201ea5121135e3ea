//! `cluster ps`: the same document as `status`, seen from the processes.

use clap::Args;

use crate::Context;
use crate::failure::Outcome;
use crate::status;
use crate::target::ClusterFile;

/// Options of `cluster ps`.
#[derive(Args, Debug)]
pub struct PsArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
}

/// Prints processes and replicas.
pub fn run(args: &PsArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let view = status::collect(&config);
    context.output.print(&view.document(), || {
        format!("{}\n\n{}", view.nodes_table(), view.replicas_table())
    })
}
