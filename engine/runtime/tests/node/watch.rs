//! The administration port: what a node tells over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use quorate_config::ClusterConfig;
use quorate_protocol::ids::NodeId;

use crate::harness::{Client, PATIENCE, config, leader, replica, scratch, start};

fn connect(config: &ClusterConfig, node: u32) -> TcpStream {
    let address = config.administration_address_of(NodeId(node)).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Status and body.
fn get(config: &ClusterConfig, node: u32, path: &str) -> (u16, String) {
    let mut stream = connect(config, node);
    write!(stream, "GET {path} HTTP/1.1\r\nhost: quorate\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

/// The value of the sample that begins like this.
fn sample(body: &str, begins: &str) -> f64 {
    let line = body.lines().find(|line| line.starts_with(begins));
    let line = line.unwrap_or_else(|| panic!("{begins} is not in\n{body}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_node_tells_what_it_does_and_when_it_is_ready() {
    let directory = scratch();
    let config = config(directory.path(), 1, 3, 3);
    let first = start(&config, 1);
    // It hangs in nothing, and cannot serve alone.
    wait_for("health", || get(&config, 1, "/health").0 == 200);
    let (status, body) = get(&config, 1, "/ready");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("no leader"), "{body}");
    let others = [start(&config, 2), start(&config, 3)];
    for node in 1..=3 {
        wait_for("readiness", || get(&config, node, "/ready").0 == 200);
    }
    let (leading, mut client) = leader(&config, &[replica(1, 1), replica(1, 2), replica(1, 3)]);
    assert_eq!(client.create_accounts([1, 2]), [0, 0]);
    assert_eq!(client.transfer(9, 1, 2, 5), 0);
    let node = u32::from(leading.replica.0);
    wait_for("counters follow", || {
        let (status, body) = get(&config, node, "/metrics");
        assert_eq!(status, 200);
        let labels = format!("{{shard=\"1\",replica=\"{node}\"");
        let committed = format!("quorate_committed_total{labels},kind=\"local\"}}");
        let clients = format!("quorate_connections{labels},kind=\"client\"}}");
        assert!(sample(&body, "process_open_fds") > 10.0);
        sample(&body, &committed) > 0.5
            && sample(&body, &clients) > 0.5
            && sample(&body, &format!("quorate_log_flushes_total{labels}}}")) > 0.5
    });
    first.isolate();
    wait_for("isolation shows", || {
        get(&config, 1, "/ready").1.contains("isolated")
    });
    first.heal();
    wait_for("and its end", || get(&config, 1, "/ready").0 == 200);
    assert_eq!(get(&config, 1, "/").0, 404);
    first.stop().unwrap();
    for node in others {
        node.stop().unwrap();
    }
}

/// They take neither a place of those who ask properly, nor the replica's time.
#[test]
fn those_who_ask_badly_are_sent_away() {
    let directory = scratch();
    let config = config(directory.path(), 1, 1, 1);
    let node = start(&config, 1);
    let (_, mut client) = leader(&config, &[replica(1, 1)]);
    let mut long = connect(&config, 1);
    long.write_all(&[b"GET / HTTP/1.1\r\na: ".as_slice(), &[b'x'; 8 << 10]].concat())
        .unwrap();
    let mut text = String::new();
    // The rest of what was sent may reset the connection behind the answer.
    let _ = long.read_to_string(&mut text);
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 431"),
        "{text}"
    );
    let silent: Vec<TcpStream> = (0..100).map(|_| connect(&config, 1)).collect();
    client.status();
    // A silent one is sent away by its deadline, and gives its place back.
    let mut first = &silent[0];
    assert!(matches!(first.read(&mut [0]), Ok(0)));
    drop(silent);
    wait_for("a place", || {
        let mut stream = connect(&config, 1);
        let _ = write!(stream, "GET /health HTTP/1.1\r\n\r\n");
        let mut text = String::new();
        stream.read_to_string(&mut text).is_ok() && text.starts_with("HTTP/1.1 200")
    });
    let mut other = Client::connect(&config, replica(1, 1));
    other.status();
    node.stop().unwrap();
}
