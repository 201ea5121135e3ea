//! Which version the nodes of a topology speak: each is asked for a handshake, and nothing else.
//!
//! Magic and version keep their place in every version of the wire, so any two of them can at least refuse
//! each other by number. The version of a program beside that is told by no reply.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use quorate_access::{Dialler, HandshakeError, Next};
use quorate_config::{ClusterConfig, ClusterKey};
use quorate_protocol::ids::{ClusterId, NodeId, ReplicaAddress};
use quorate_wire::{FrameError, FrameReader, Origin, Refused, WIRE_VERSION};

use super::check::{Check, Finding, Verdict};

/// How long a node may take to answer. All are asked at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// What came back from one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It shakes hands.
    Welcome,
    /// It speaks this version and refuses this topology, or any connection for now.
    Refused(Refused),
    /// It speaks this version; one of the two sides has not the other's key.
    OtherKey(String),
    OtherVersion(u16),
    /// It is a node of another cluster.
    OtherCluster(ClusterId),
    /// Something listens there that is no node.
    Foreign(String),
    /// Nothing does, or it says nothing.
    Silent(String),
}

/// Asks every node of the topology, each at its first replica: all of them run the same program.
#[must_use]
pub fn ask_all(config: &ClusterConfig) -> Vec<(NodeId, Answer)> {
    thread::scope(|scope| {
        let asked: Vec<_> = config
            .nodes()
            .filter_map(|node| Some((node.id, *config.replicas_of(node.id).first()?)))
            .map(|(node, replica)| (node, scope.spawn(move || ask(config, replica))))
            .collect();
        asked
            .into_iter()
            .map(|(node, answer)| {
                // A thread that panicked has told so on stderr.
                let answer = answer.join();
                let answer = answer.unwrap_or_else(|_| Answer::Silent("not asked".to_owned()));
                (node, answer)
            })
            .collect()
    })
}

/// What a node's answer says of its version.
#[must_use]
pub fn version(node: NodeId, answer: &Answer) -> Finding {
    let own = format!("wire version {WIRE_VERSION}");
    let found = match answer {
        Answer::Welcome => own.clone(),
        Answer::Refused(refused) => format!("{own}, refused: {}", refused.reason),
        Answer::OtherKey(problem) => format!("{own}, but it {problem}"),
        Answer::OtherVersion(found) => format!("wire version {found}"),
        Answer::OtherCluster(found) => format!("{own}, cluster {found}"),
        Answer::Foreign(problem) => format!("no node ({problem})"),
        Answer::Silent(problem) => format!("not reachable ({problem})"),
    };
    let finding = Finding::ok(Check::Version, Some(node), found, own);
    let same_file = "use the same cluster.toml on every host";
    match answer {
        Answer::Welcome => finding,
        Answer::Refused(refused) if refused.refusal.is_final() => {
            finding.but(Verdict::Fault, same_file)
        }
        // For a reason that passes: its version was told all the same.
        Answer::Refused(_) => finding,
        Answer::OtherKey(_) => finding.but(
            Verdict::Fault,
            "copy one key_file to every host, with mode 600",
        ),
        Answer::OtherVersion(_) => finding.but(
            Verdict::Fault,
            "run the same build of quorate on every node",
        ),
        Answer::OtherCluster(_) => finding.but(Verdict::Fault, same_file),
        Answer::Foreign(_) => finding.but(
            Verdict::Fault,
            "another program has its port: end that, or give the node another base_port",
        ),
        Answer::Silent(_) => finding.but(
            Verdict::Warning,
            "start it, or open its ports to this host, and ask again",
        ),
    }
}

fn ask(config: &ClusterConfig, target: ReplicaAddress) -> Answer {
    let origin = Origin::Client {
        id: u128::from(std::process::id()),
    };
    let key = config.key.as_ref().map(ClusterKey::key);
    let genesis = config.genesis().to_string();
    match Dialler::new(config.cluster_id, key, origin, target, genesis) {
        Ok(dialler) => exchange(config.address_of(target), config.cluster_id, dialler),
        Err(error) => Answer::Silent(error.to_string()),
    }
}

/// What a handshake that failed says.
fn judged(error: HandshakeError) -> Answer {
    match error {
        HandshakeError::Refused(refused) => Answer::Refused(refused),
        HandshakeError::KeyWanted | HandshakeError::NotProved => {
            Answer::OtherKey(error.to_string())
        }
        HandshakeError::WrongReplica { .. } | HandshakeError::WrongFrame(_) => {
            Answer::Foreign(error.to_string())
        }
        HandshakeError::Encode(_) | HandshakeError::Draw(_) => Answer::Silent(error.to_string()),
    }
}

/// What bytes that are no frame say.
fn misread(error: &FrameError) -> Answer {
    match *error {
        FrameError::Version { found } => Answer::OtherVersion(found),
        FrameError::Cluster { found, .. } => Answer::OtherCluster(found),
        FrameError::Magic { .. }
        | FrameError::Kind { .. }
        | FrameError::Length { .. }
        | FrameError::Reserved
        | FrameError::Padding
        | FrameError::Crc { .. }
        | FrameError::Structure { .. }
        | FrameError::Entry(_)
        | FrameError::Rows { .. }
        | FrameError::Number { .. } => Answer::Foreign(error.to_string()),
    }
}

/// Shakes hands, and hangs up.
fn exchange(address: SocketAddr, cluster: ClusterId, dialler: Dialler<'_>) -> Answer {
    let shaken = shake_hands(address, cluster, dialler);
    shaken.unwrap_or_else(|error| Answer::Silent(error.to_string()))
}

fn shake_hands(
    address: SocketAddr,
    cluster: ClusterId,
    mut dialler: Dialler<'_>,
) -> io::Result<Answer> {
    let deadline = Instant::now() + ANSWER_WITHIN;
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(dialler.hello())?;
    let mut reader = FrameReader::for_handshake(cluster);
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => match dialler.next(frame) {
                Ok(Next::Send(bytes)) => stream.write_all(&bytes)?,
                Ok(Next::Established) => return Ok(Answer::Welcome),
                Err(error) => return Ok(judged(error)),
            },
            Ok(None) => read_more(&mut stream, &mut reader, deadline)?,
            Err(error) => return Ok(misread(&error)),
        }
    }
}

fn read_more(
    stream: &mut TcpStream,
    reader: &mut FrameReader,
    deadline: Instant,
) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    match stream.read(reader.space()) {
        Ok(0) => Err(io::Error::other("it closed the connection")),
        Ok(bytes) => {
            reader.advance(bytes);
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::TimedOut.into()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use quorate_protocol::ids::{ReplicaId, ShardId};
    use quorate_wire::{
        Challenge, HEADER_BYTES, HelloAck, NONCE_BYTES, PROOF_BYTES, Refusal, encode_challenge,
        encode_hello_ack, encode_refused,
    };

    use super::*;

    const CLUSTER: ClusterId = ClusterId(7);
    const REPLICA: ReplicaAddress = ReplicaAddress {
        shard: ShardId(1),
        replica: ReplicaId(1),
    };

    fn dialler() -> Dialler<'static> {
        let origin = Origin::Client { id: 1 };
        Dialler::new(CLUSTER, None, origin, REPLICA, "a genesis".to_owned()).unwrap()
    }

    /// What is made of a listener that answers a hello with these bytes and closes.
    fn answered(bytes: Vec<u8>) -> Answer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut hello = [0; HEADER_BYTES];
                stream.read_exact(&mut hello).unwrap();
                stream.write_all(&bytes).unwrap();
            });
            exchange(address, CLUSTER, dialler())
        })
    }

    fn acknowledged(cluster: ClusterId) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_hello_ack(cluster, &HelloAck { replica: REPLICA }, &mut bytes).unwrap();
        bytes
    }

    fn challenge() -> Vec<u8> {
        let challenge = Challenge {
            nonce: [1; NONCE_BYTES],
            proof: [2; PROOF_BYTES],
        };
        let mut bytes = Vec::new();
        encode_challenge(CLUSTER, &challenge, &mut bytes).unwrap();
        bytes
    }

    fn refusal(refusal: Refusal) -> Vec<u8> {
        let refused = Refused {
            refusal,
            reason: "why".to_owned(),
        };
        let mut bytes = Vec::new();
        encode_refused(CLUSTER, &refused, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn answers_are_told_apart_and_only_silence_is_no_fault_and_not_well() {
        let mut older = acknowledged(CLUSTER);
        older[4..6].copy_from_slice(&(WIRE_VERSION - 1).to_le_bytes());
        let other = acknowledged(ClusterId(9));
        let same = format!("wire version {WIRE_VERSION}");
        let lower = format!("wire version {}", WIRE_VERSION - 1);
        for (bytes, verdict, found) in [
            (acknowledged(CLUSTER), Verdict::Ok, same.as_str()),
            (
                refusal(Refusal::ConnectionsMax),
                Verdict::Ok,
                "refused: why",
            ),
            (
                refusal(Refusal::WrongGenesis),
                Verdict::Fault,
                "refused: why",
            ),
            (challenge(), Verdict::Fault, "key_file"),
            (older, Verdict::Fault, &lower),
            (other, Verdict::Fault, "cluster 9"),
            (vec![b'x'; 64], Verdict::Fault, "no node (magic"),
            (Vec::new(), Verdict::Warning, "not reachable ("),
        ] {
            let answer = answered(bytes);
            let finding = version(NodeId(3), &answer);
            assert_eq!(finding.verdict, verdict, "{answer:?}");
            assert!(finding.found.contains(found), "{answer:?}: {finding:?}");
            assert_eq!(finding.needed, same);
        }
    }

    #[test]
    fn a_port_where_nothing_listens_is_not_reachable() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let finding = version(NodeId(1), &exchange(address, CLUSTER, dialler()));
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.found.starts_with("not reachable"), "{finding:?}");
    }
}
