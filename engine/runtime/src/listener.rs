//! Serves the connections that a replica's accepting thread hands over.

use std::rc::Rc;

use glommio::spawn_local;
use quorate_net::{Stream, give_way};

use crate::acceptor::{Accepted, Acceptor};
use crate::connection;
use crate::connections::Connections;
use crate::limits::HANDED_MAX;

/// Serves until it is dropped, and with it the port is closed. Each connection's task ends by itself
/// (see [`Connections::drain`]).
pub(crate) async fn serve_accepted(acceptor: Acceptor, bell: Stream, connections: Rc<Connections>) {
    let mut told = [0; HANDED_MAX];
    loop {
        match bell.read(&mut told).await {
            Ok(count @ 1..) => (0..count)
                .filter_map(|_| acceptor.next())
                .for_each(|accepted| serve(accepted, &connections)),
            ended => {
                tracing::error!(replica = %connections.address, ?ended, "nothing is accepted any more");
                return;
            }
        }
        // More may have come meanwhile, and then the read would not wait.
        give_way().await;
    }
}

fn serve(accepted: Accepted, connections: &Rc<Connections>) {
    match accepted {
        Ok(stream) => {
            spawn_local(connection::serve(Rc::clone(connections), stream)).detach();
        }
        Err(error) => {
            connections.refusals.count("accept_failed");
            tracing::warn!(replica = %connections.address, "accept failed: {error}");
        }
    }
}
