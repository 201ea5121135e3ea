//! What both transports say of themselves on every connection.

use quorate_access::{Dialler, HandshakeError};
use quorate_config::ClusterConfig;
use quorate_protocol::ids::{ClusterId, ReplicaAddress};
use quorate_wire::Origin;

use crate::ulid::os_random;

/// One client's.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) cluster: ClusterId,
    key: Option<quorate_config::ClusterKey>,
    genesis: String,
    client: u128,
}

impl Greeting {
    /// The greeting of a new client under a number of its own.
    pub(crate) fn of(config: &ClusterConfig) -> Self {
        Self {
            cluster: config.cluster_id,
            key: config.key.clone(),
            genesis: config.genesis().to_string(),
            client: u128::from(os_random()) << 64 | u128::from(os_random()),
        }
    }

    /// Begins a handshake with `target`.
    pub(crate) fn dialler(&self, target: ReplicaAddress) -> Result<Dialler<'_>, HandshakeError> {
        let key = self.key.as_ref().map(quorate_config::ClusterKey::key);
        let origin = Origin::Client { id: self.client };
        Dialler::new(self.cluster, key, origin, target, self.genesis.clone())
    }
}
