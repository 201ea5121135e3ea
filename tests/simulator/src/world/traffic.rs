//! What travels: bytes that reach processes and clients, and bytes that they send.

use quorate_protocol::client::{Reply, ReplyBody, Request};
use quorate_protocol::ids::{Ballot, ConnectionId, ReplicaAddress};
use quorate_protocol::input::Input;
use quorate_protocol::time::{MS, Timestamp};

use crate::client::ClientEffect;
use crate::network::Host;
use crate::plots::{self, Arrival, probe, rival};
use crate::rare;
use crate::world::event::Event;
use crate::world::{World, client_of};

impl World {
    pub(super) fn peer_bytes(
        &mut self,
        process: usize,
        from: ReplicaAddress,
        bytes: &[u8],
        corrupted: bool,
    ) {
        if !self.is_alive(process) {
            return;
        }
        match self.codec.peer(bytes) {
            Ok(message) if !corrupted => {
                let at_ns = self.now_ns();
                let to = self.processes[process].address();
                let arrival = Arrival {
                    process,
                    from,
                    to,
                    message: &message,
                    bytes,
                };
                if plots::intercept(self, arrival) {
                    return;
                }
                self.trace
                    .line(at_ns, || format!("{from} -> {to} {message:?}"));
                self.trace_bytes(1, process, bytes);
                rare::messages::of_message(&mut self.rare, &message);
                rival::meet(self, from, &message);
                self.step(process, Input::Peer { from, message });
            }
            decoded => self.refused(decoded.is_ok(), corrupted, bytes),
        }
    }

    pub(super) fn request_bytes(
        &mut self,
        process: usize,
        connection: ConnectionId,
        bytes: &[u8],
        corrupted: bool,
    ) {
        let is_away =
            self.processes[process].is_parked() || self.processes[process].is_rebuilding();
        if self.nodes[self.node_of[process]].up && is_away {
            return self.send_away(process, connection, bytes);
        }
        if !self.is_up(process) {
            return;
        }
        let life = self.life_of(process);
        if *self
            .connections
            .entry(connection)
            .or_insert((process, life))
            != (process, life)
        {
            // The connection belonged to an earlier life, or has been closed.
            self.rare.add("request_on_dead_connection");
            let event = Event::Reset {
                client: client_of(connection),
                target: self.processes[process].address(),
                connection,
            };
            let at_ns = self.now_ns() + MS;
            self.queue.push(at_ns, event);
            return;
        }
        match self.codec.request(bytes) {
            Ok(request) if !corrupted => {
                let at_ns = self.now_ns();
                let to = self.processes[process].address();
                self.trace
                    .line(at_ns, || format!("{connection:?} -> {to} {request:?}"));
                self.trace_bytes(2, process, bytes);
                let input = Input::Client {
                    connection,
                    request,
                };
                self.step(process, input);
            }
            decoded => self.refused(decoded.is_ok(), corrupted, bytes),
        }
    }

    /// A replica that is out of service does not lead, as the runtime answers for it.
    pub(super) fn send_away(&mut self, process: usize, connection: ConnectionId, bytes: &[u8]) {
        let Ok(request) = self.codec.request(bytes) else {
            return;
        };
        let reply = Reply {
            id: request.id,
            clock: Timestamp::ZERO,
            body: ReplyBody::NotLeader {
                ballot: Ballot::ZERO,
                leader: None,
            },
        };
        let bytes = self.codec.encode_reply(&reply);
        self.send_reply(process, connection, bytes);
    }

    pub(super) fn reply_bytes(&mut self, client: usize, bytes: &[u8], corrupted: bool) {
        match self.codec.reply(bytes) {
            Ok(reply) if !corrupted => {
                let at_ns = self.now_ns();
                self.trace
                    .line(at_ns, || format!("-> client {client} {reply:?}"));
                self.trace_bytes(3, client, bytes);
                rare::of_reply(&mut self.rare, &reply);
                let actor = &mut self.actors[client];
                actor.client.receive(at_ns, reply, &mut self.history);
                probe::on_answer(self);
                self.wake(client);
            }
            decoded => self.refused(decoded.is_ok(), corrupted, bytes),
        }
    }

    /// Bytes that were altered on the way must not decode; bytes that were not must.
    pub(super) fn refused(&mut self, decoded: bool, corrupted: bool, bytes: &[u8]) {
        if decoded {
            let length = bytes.len();
            self.violate(
                "wire",
                format!("a corrupted frame of {length} bytes was taken"),
            );
        } else if !corrupted {
            let length = bytes.len();
            self.violate(
                "wire",
                format!("a whole frame of {length} bytes was refused"),
            );
        } else {
            self.faults.add("corruption_caught");
        }
    }

    pub(super) fn close(&mut self, process: usize, connection: ConnectionId) {
        let known = self.connections.insert(connection, (usize::MAX, 0));
        if known == Some((process, self.life_of(process))) && self.is_up(process) {
            self.step(process, Input::Disconnected { connection });
        }
    }

    pub(super) fn send_peer(&mut self, process: usize, to: ReplicaAddress, bytes: Vec<u8>) {
        let from = self.processes[process].address();
        let target = self.process_of(to);
        let hosts = (Host(self.node_of[process]), Host(self.node_of[target]));
        for delivery in self
            .network
            .send(self.queue.now_ns(), hosts.0, hosts.1, bytes)
        {
            let event = Event::Peer {
                process: target,
                from,
                bytes: delivery.bytes,
                corrupted: delivery.corrupted,
            };
            self.queue.push(delivery.at_ns, event);
        }
    }

    pub(super) fn send_reply(&mut self, process: usize, connection: ConnectionId, bytes: Vec<u8>) {
        let client = client_of(connection);
        let hosts = (Host(self.node_of[process]), self.client_host(client));
        for delivery in self
            .network
            .send(self.queue.now_ns(), hosts.0, hosts.1, bytes)
        {
            let event = Event::Reply {
                client,
                bytes: delivery.bytes,
                corrupted: delivery.corrupted,
            };
            self.queue.push(delivery.at_ns, event);
        }
    }

    /// Lets a client act, and plans when it has to act again.
    pub(crate) fn wake(&mut self, client: usize) {
        let now_ns = self.now_ns();
        let actor = &mut self.actors[client];
        let effects = actor.client.wake(now_ns, &mut self.history);
        for effect in effects {
            match effect {
                ClientEffect::Send {
                    to,
                    connection,
                    request,
                } => self.send_request(client, to, connection, &request),
                ClientEffect::Close { to, connection } => {
                    // Often behind what was sent before, sometimes ahead of it.
                    let delay_ns = self.actors[client].stream.exponential(5 * MS);
                    self.close_later(to, connection, delay_ns);
                }
            }
        }
        let actor = &mut self.actors[client];
        if let Some(at_ns) = actor.client.deadline_ns()
            && actor.wake_ns.is_none_or(|planned| at_ns < planned)
        {
            actor.wake_ns = Some(at_ns);
            self.queue.push(at_ns, Event::Wake { client, at_ns });
        }
    }

    /// A replica learns after a while that a client has closed a connection.
    pub(crate) fn close_later(
        &mut self,
        to: ReplicaAddress,
        connection: ConnectionId,
        delay_ns: u64,
    ) {
        let event = Event::Close {
            process: self.process_of(to),
            connection,
        };
        self.queue.push(self.now_ns() + delay_ns, event);
    }

    pub(super) fn send_request(
        &mut self,
        client: usize,
        to: ReplicaAddress,
        connection: ConnectionId,
        request: &Request,
    ) {
        let process = self.process_of(to);
        let hosts = (self.client_host(client), Host(self.node_of[process]));
        let bytes = self.codec.encode_request(request);
        let deliveries = self
            .network
            .send(self.queue.now_ns(), hosts.0, hosts.1, bytes);
        // A connection delivers a request once: its number must be unique while it is open.
        for delivery in deliveries.into_iter().take(1) {
            let event = Event::Request {
                process,
                connection,
                bytes: delivery.bytes,
                corrupted: delivery.corrupted,
            };
            self.queue.push(delivery.at_ns, event);
        }
    }
}
