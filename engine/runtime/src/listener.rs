//! Serves the connections that a replica's accepting thread hands over.

use std::rc::Rc;

use futures_lite::AsyncReadExt;
use glommio::spawn_local;

use crate::acceptor::{Accepted, Acceptor, Bell};
use crate::connections::Connections;
use crate::limits::HANDED_MAX;
use crate::turn::give_way;
use crate::{connection, socket};

/// Serves until it is dropped, and with it the port is closed. Each connection's task ends by itself
/// (see [`Connections::drain`]).
pub(crate) async fn serve_accepted(acceptor: Acceptor, bell: Bell, connections: Rc<Connections>) {
    let mut bell = socket::on_executor(bell.0);
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
            let stream = socket::on_executor(stream);
            spawn_local(connection::serve(Rc::clone(connections), stream)).detach();
        }
        Err(error) => {
            connections.refusals.count("accept_failed");
            tracing::warn!(replica = %connections.address, "accept failed: {error}");
        }
    }
}
