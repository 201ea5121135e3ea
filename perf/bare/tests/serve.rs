//! The server as a process: every frame is answered, and its bytes are in the log with their checksum.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use quorate_bare::frame::{ECHO_BYTES, HEADER_BYTES, Header, Kind, RECORD_BYTES};

const BLOCK_BYTES: usize = 4096;

/// A running server; it has ended when this is dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// One segment of 8 MiB in `directory`, on a free port.
    fn start(directory: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bare"))
            .args([
                "serve",
                "--port",
                "0",
                "--segments",
                "1",
                "--segment-mib",
                "8",
            ])
            .arg("--dir")
            .arg(directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("serving on ");
        let address = address.expect("the line that says where").to_owned();
        Self { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Beside the test's own binary: a temporary directory may be on a tmpfs, which has no direct IO.
fn directory() -> tempfile::TempDir {
    let beside = std::env::current_exe().unwrap();
    tempfile::tempdir_in(beside.parent().unwrap()).unwrap()
}

fn request(count: u32, number: u32) -> (Header, Vec<u8>) {
    let header = Header {
        kind: Kind::Request,
        count,
        number,
    };
    let words = (0_u32..).map(|word| word.wrapping_mul(0x9e37_79b9) ^ number);
    let payload = words
        .flat_map(u32::to_le_bytes)
        .take(header.payload_bytes())
        .collect();
    (header, payload)
}

fn bytes_of(requests: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (header, payload) in requests {
        header.append_to(&mut bytes);
        bytes.extend_from_slice(payload);
    }
    bytes
}

fn expect_answers(mut stream: &TcpStream, requests: &[(Header, Vec<u8>)]) {
    for (header, payload) in requests {
        let mut expected = Vec::new();
        let answer = Header {
            kind: Kind::Answer,
            ..*header
        };
        answer.append_to(&mut expected);
        for record in payload.chunks(RECORD_BYTES) {
            expected.extend_from_slice(&record[..ECHO_BYTES]);
        }
        let mut found = vec![0; expected.len()];
        stream.read_exact(&mut found).unwrap();
        assert!(found == expected, "the answer of {header:?}");
    }
}

/// The frames of a log that was written from its beginning and not yet a second time.
fn frames_in(log: &[u8]) -> Vec<(Header, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < log.len() {
        let head: [u8; HEADER_BYTES] = log[at..at + HEADER_BYTES].try_into().unwrap();
        if head == [0; HEADER_BYTES] {
            // The rest of a group's last block, or what was never written.
            at = (at + 1).next_multiple_of(BLOCK_BYTES);
            continue;
        }
        let header = Header::decode(Kind::Request, head).unwrap();
        let payload = &log[at + HEADER_BYTES..][..header.payload_bytes()];
        let crc = u32::from_le_bytes(head[12..].try_into().unwrap());
        assert_eq!(crc, crc32fast::hash(payload), "of {header:?}");
        frames.push((header, payload.to_vec()));
        at += HEADER_BYTES + payload.len();
    }
    frames
}

#[test]
fn every_frame_is_answered_and_lies_in_the_log_with_its_checksum() {
    let directory = directory();
    let server = Server::start(directory.path());
    let first: Vec<_> = (0..100).map(|number| request(1, number)).collect();
    let second = [request(8190, 1000), request(3, 1001), request(257, 1002)];
    let (one, other) = (server.connect(), server.connect());
    (&one).write_all(&bytes_of(&first)).unwrap();
    (&other).write_all(&bytes_of(&second)).unwrap();
    expect_answers(&one, &first);
    expect_answers(&other, &second);
    // A block starts with a frame, so one that follows an answered one is found, too.
    let last = [request(2, 2000)];
    (&one).write_all(&bytes_of(&last)).unwrap();
    expect_answers(&one, &last);
    let log = std::fs::read(directory.path().join("bare-00.log")).unwrap();
    assert_eq!(log.len(), 8 << 20);
    let mut found = frames_in(&log);
    found.sort_by_key(|(header, _)| header.number);
    let sent: Vec<_> = first.into_iter().chain(second).chain(last).collect();
    assert!(found == sent, "the log holds what was sent");
}

/// With the flag of rustix's name for it the log was open with O_SYNC, which promises more than is asked for.
#[test]
fn a_flush_waits_for_the_bytes_and_not_for_the_times_of_the_file() {
    const O_DSYNC: u32 = 0o10_000;
    const O_DIRECT: u32 = 0o40_000;
    const O_SYNC_ALONE: u32 = 0o4_000_000;
    let directory = directory();
    let server = Server::start(directory.path());
    let process = format!("/proc/{}", server.child.id());
    let log = directory.path().join("bare-00.log");
    let is_log = |name: &String| {
        let open = std::fs::read_link(format!("{process}/fd/{name}"));
        open.is_ok_and(|path| path == log)
    };
    let name = std::fs::read_dir(format!("{process}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(is_log)
        .expect("the log is open");
    let text = std::fs::read_to_string(format!("{process}/fdinfo/{name}")).unwrap();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
    // O_DIRECT has this value on x86-64 alone, O_DSYNC wherever the server runs.
    if cfg!(target_arch = "x86_64") {
        assert_eq!(flags & O_DIRECT, O_DIRECT, "{flags:o}");
    }
    assert_eq!(flags & (O_DSYNC | O_SYNC_ALONE), O_DSYNC, "{flags:o}");
}

#[test]
fn a_wrong_frame_ends_its_connection_and_no_other() {
    let directory = directory();
    let server = Server::start(directory.path());
    let (good, bad) = (server.connect(), server.connect());
    (&bad).write_all(&[0xff; HEADER_BYTES]).unwrap();
    let ended = (&bad).read(&mut [0]);
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    let requests = [request(1, 1)];
    (&good).write_all(&bytes_of(&requests)).unwrap();
    expect_answers(&good, &requests);
}

#[test]
fn a_port_is_not_shared() {
    let (one, other) = (directory(), directory());
    let server = Server::start(one.path());
    let port = server.address.rsplit(':').next().unwrap();
    let second = Command::new(env!("CARGO_BIN_EXE_bare"))
        .args(["serve", "--port", port, "--dir"])
        .arg(other.path())
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("listening on port"), "{said}");
}
