//! From a locked data directory to a replica that runs: its store, its log, its core.
//!
//! ```text
//! store opened -> log recovered above its checkpoint, index loaded beside it
//!              -> checkpoint loaded -> core made -> tasks started
//! ```

use std::rc::Rc;
use std::time::Instant;

use quorate_config::ClusterConfig;
use quorate_durable::keeper::Keeper;
use quorate_protocol::config::ReplicaConfig;
use quorate_protocol::ids::{ReplicaAddress, Slot};
use quorate_protocol::replica::Replica;
use quorate_storage::store::Binding;

use crate::clock::Clock;
use crate::directory::DataDirectory;
use crate::fatal::Fatal;
use crate::inbox::Inbox;
use crate::log::Log;
use crate::peers::Peers;
use crate::recover::{open_block_first, open_log};
use crate::room::Room;
use crate::store::{Files, Indexing, Store, StoreFiles, load_checkpoint, open_store};

/// A replica with what carries out its outputs.
pub(crate) struct Started {
    pub(crate) replica: Box<Replica>,
    pub(crate) log: Log,
    pub(crate) store: Store,
}

/// Whose files a replica's store are.
pub(crate) fn binding_of(config: &ReplicaConfig) -> Binding {
    Binding {
        cluster: config.cluster.0,
        shard: config.address.shard.0,
    }
}

/// Recovers a replica and starts its tasks. Blocks the executor: nothing is served yet.
pub(crate) async fn start_replica(
    cluster: &ClusterConfig,
    config: ReplicaConfig,
    directory: &DataDirectory,
    (inbox, peers, room): (&Rc<Inbox>, &Rc<Peers>, &Rc<Room>),
    clock: &mut Clock,
) -> Result<Started, Fatal> {
    // Before anything that may fail: what takes the place of a store that cannot be used opens files, too.
    open_block_first(directory).await?;
    let started = Instant::now();
    let path = directory.path();
    let opened = open_store(directory, binding_of(&config))?;
    let checkpoint = Slot(opened.manifest().slot);
    let indexing = Indexing::begin(path, opened)?;
    let mut recovered = open_log(directory, cluster, config.address, checkpoint).await?;
    let (opened, index, indexed) = indexing.end()?;
    let loaded = (&opened, &index, indexed);
    let ledger = load_checkpoint(path, loaded, &config, &recovered.touched)?;
    recovered.recovered.rejoins = directory.rejoins();
    let address = config.address;
    let members = config.peers();
    let group = members
        .map(|replica| ReplicaAddress { replica, ..address })
        .collect();
    let now = clock.now()?;
    let replica = match ledger {
        Some(ledger) => Replica::restored(config, recovered.recovered, ledger, now),
        None => Replica::new(config, recovered.recovered, now),
    };
    let files = (StoreFiles::new(path.to_owned()), Files::new(path));
    let keeper = Keeper::new(opened, index.accounts);
    // Behind what the dead process left half done: that is removed first.
    room.begin().await;
    tracing::info!(
        replica = %address,
        milliseconds = started.elapsed().as_millis(),
        "recovered"
    );
    let (wal, segments) = (recovered.wal, recovered.files);
    let shells = (Rc::clone(inbox), Rc::clone(peers), group);
    Ok(Started {
        replica: Box::new(replica),
        log: Log::start(wal, segments, Rc::clone(inbox), Rc::clone(room)),
        store: Store::start(keeper, files, shells, Rc::clone(room)),
    })
}
