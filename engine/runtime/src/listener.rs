//! Takes new connections of one replica.

use std::rc::Rc;
use std::time::Duration;

use glommio::net::TcpListener;
use glommio::spawn_local;
use glommio::timer::sleep;

use crate::connection;
use crate::connections::Connections;

/// Pause after a failed accept: typically no descriptor is free, and trying at once would spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts until it is dropped. Each connection's task ends by itself (see [`Connections::drain`]).
pub(crate) async fn accept_for_ever(listener: TcpListener, connections: Rc<Connections>) {
    loop {
        match listener.accept().await {
            Ok(stream) => {
                spawn_local(connection::serve(Rc::clone(&connections), stream)).detach();
            }
            Err(error) => {
                connections.refusals.count("accept_failed");
                tracing::warn!(replica = %connections.address, "accept failed: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}
