//! `inspect checkpoint`: both manifests of a stopped replica's store, and which of them a start would use.

use std::fmt::Write;

use clap::Args;
use quorate_protocol::checkpoint::rows::Mark;
use quorate_storage::store::{FileKind, Manifest};
use serde_json::{Value, json};

use super::generations::{Found, Store, accounts_of, history_range, mark_of};
use super::stopped::{Files, Seen, Stopped, StoppedArgs, each};
use crate::Context;
use crate::failure::Outcome;
use crate::print::table;

/// Options of `inspect checkpoint`.
#[derive(Args, Debug)]
pub struct CheckpointArgs {
    #[command(flatten)]
    pub stopped: StoppedArgs,
}

/// Prints one row per manifest, the row of the open table and the damage.
pub fn run(args: &CheckpointArgs, context: Context) -> Outcome {
    each(&args.stopped, context, look)
}

fn look(stopped: &Stopped) -> Result<Seen, anyhow::Error> {
    let mut disk = stopped.files();
    let store = Store::read(stopped, &mut disk)?;
    let damage = store.damage();
    let used = store.opened.as_ref().ok();
    let used = used.map(|opened| opened.store.manifest().number);
    let log_needed_from = store.opened.as_ref().ok();
    let log_needed_from = log_needed_from.map(|opened| opened.store.log_needed_from());
    let generations: Vec<Generation<'_>> = store
        .generations
        .iter()
        .map(|found| Generation::of(stopped, found, &mut disk))
        .collect();
    let document = json!({
        "row": format!("{:?}", store.row()),
        "used": used,
        "log_needed_from": log_needed_from,
        "manifests": generations.iter().map(Generation::document).collect::<Vec<_>>(),
        "damage": damage,
    });
    let mut text = people(&generations);
    // Writing to a string cannot fail.
    let _ = write!(text, "\nopens as {:?}", store.row());
    if let Some((used, from)) = used.zip(log_needed_from) {
        let _ = match used {
            0 => write!(text, ": no checkpoint yet"),
            used => write!(
                text,
                ": checkpoint {used}; the log is needed behind slot {from}"
            ),
        };
    }
    for damage in &damage {
        let _ = write!(text, "\ndamage: {damage}");
    }
    Ok(Seen {
        document,
        text,
        damaged: !damage.is_empty(),
    })
}

/// One manifest, with what its files say.
struct Generation<'a> {
    found: &'a Found,
    history: Option<(u64, u64)>,
    mark: Option<Mark>,
}

impl<'a> Generation<'a> {
    fn of(stopped: &Stopped, found: &'a Found, disk: &mut Files<'_>) -> Self {
        let manifest = found.manifest.as_ref();
        let manifest = manifest.and_then(|manifest| manifest.as_ref().ok());
        Self {
            found,
            history: manifest.and_then(|manifest| history_range(stopped, manifest, disk)),
            mark: manifest.and_then(mark_of),
        }
    }

    fn document(&self) -> Value {
        let file = self.found.generation.file_name();
        match &self.found.manifest {
            None => json!({ "file": file, "state": "absent" }),
            Some(Err(error)) => {
                json!({ "file": file, "state": "damaged", "error": error.to_string() })
            }
            Some(Ok(manifest)) => json!({
                "file": file,
                "state": "readable",
                "number": manifest.number,
                "slot": manifest.slot,
                "accounts_live": accounts_of(manifest),
                "history_next": manifest.history_next,
                "history": self.history.map(|(first, end)| {
                    json!({ "first": first, "end": end })
                }),
                "files": files(manifest),
                "mark": self.mark.map(mark_document),
            }),
        }
    }
}

fn files(manifest: &Manifest) -> Vec<Value> {
    let files = manifest.files.iter();
    files
        .map(|listed| {
            json!({
                "file": listed.file.file_name(),
                "blocks": listed.blocks,
                "content": format!("{:016x}", listed.content),
                "live": (listed.file.kind == FileKind::Accounts).then_some(listed.live),
            })
        })
        .collect()
}

fn mark_document(mark: Mark) -> Value {
    json!({
        "slot": mark.slot.0,
        "highest_origin": mark.highest_origin.to_string(),
        "digest": format!("{:032x}", mark.digest()),
        "side": format!("{:016x}", mark.side),
    })
}

fn people(generations: &[Generation<'_>]) -> String {
    let mut rows = table(&[
        "manifest",
        "checkpoint",
        "slot",
        "accounts",
        "history",
        "files",
        "highest origin",
        "digest",
    ]);
    for generation in generations {
        let file = generation.found.generation.file_name().to_owned();
        match &generation.found.manifest {
            None => rows.add_row([file, "absent".to_owned()]),
            Some(Err(error)) => rows.add_row([file, format!("damaged: {error}")]),
            Some(Ok(manifest)) => rows.add_row([
                file,
                manifest.number.to_string(),
                manifest.slot.to_string(),
                accounts_of(manifest).to_string(),
                generation
                    .history
                    .map_or("-".to_owned(), |(first, end)| format!("{first}..{end}")),
                manifest.files.len().to_string(),
                generation
                    .mark
                    .map_or("-".to_owned(), |mark| mark.highest_origin.to_string()),
                generation
                    .mark
                    .map_or("-".to_owned(), |mark| format!("{:032x}", mark.digest())),
            ]),
        };
    }
    rows.to_string()
}
