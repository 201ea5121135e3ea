//! What a latency is made of: one flush, and one TCP round trip, each by itself.
//!
//! One executor measures; two others only send back what they get, one on another core and one on the
//! same. The kinds take turns in slices, so that what else the machine does falls on all of them.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::ExecutorJoinHandle;
use serde::Serialize;

use crate::args::FloorArguments;
use crate::executor::{adopt, pinned, raise_limits};
use crate::report::{Host, Microseconds, Times, write_json};
use crate::ring::{BLOCK_BYTES, Ring};

/// Time that one kind has before the next one's turn.
const SLICE: Duration = Duration::from_millis(100);
/// At the beginning of each slice: they find the caches as the other kind left them.
const UNCOUNTED: usize = 8;
const MESSAGE_BYTES: usize = 64;
const SEGMENT_BYTES: u64 = 64 << 20;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Floor {
    /// A block, written durably with nothing else in flight.
    pub flush_us: Microseconds,
    /// The same with the bytes that were asked for.
    pub flush_large_us: Option<Microseconds>,
    pub flush_large_bytes: Option<usize>,
    /// 64 bytes there and back, between two executors on two cores.
    pub round_trip_us: Microseconds,
    /// Between two executors on one core.
    pub round_trip_same_core_us: Microseconds,
    pub host: Host,
}

/// What takes turns.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Flush(usize),
    RoundTrip,
    RoundTripSameCore,
}

/// Measures, prints a table, and writes the document.
///
/// # Errors
/// The directory or a CPU cannot be used, or a write failed.
pub fn run(arguments: &FloorArguments) -> anyhow::Result<()> {
    arguments.check()?;
    raise_limits();
    let (other, echo_other) = echo("echo", arguments.other_cpu)?;
    let (same, echo_same) = echo("echo-same", arguments.cpu)?;
    let job = Job {
        host: Host::here(),
        directory: arguments.dir.clone(),
        bytes: arguments.bytes,
        time: Duration::from_secs(arguments.seconds),
        other,
        same,
    };
    let executor = pinned("floor", arguments.cpu);
    let handle = executor.spawn(move || job.measure());
    let handle =
        handle.map_err(|error| anyhow!("no executor on CPU {}: {error}", arguments.cpu))?;
    let measured = joined(handle);
    // These have ended with their sockets. Why one did not start says more than what that led to.
    joined(echo_other)?;
    joined(echo_same)?;
    let floor = measured?;
    write_json(arguments.json.as_deref(), &floor)?;
    println!("{}", table(&floor));
    Ok(())
}

fn joined<T: Send + 'static>(handle: ExecutorJoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    handle
        .join()
        .map_err(|error| anyhow!("an executor did not start: {error}"))?
}

/// An executor that sends back what it gets until the returned end of its socket is closed.
fn echo(
    name: &str,
    cpu: usize,
) -> anyhow::Result<(TcpStream, ExecutorJoinHandle<anyhow::Result<()>>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    let handle = pinned(name, cpu).spawn(move || async move {
        let mut stream = adopt(far)?;
        let mut buffer = [0; MESSAGE_BYTES];
        loop {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            stream.write_all(&buffer[..read]).await?;
        }
    });
    let handle = handle.map_err(|error| anyhow!("no executor on CPU {cpu}: {error}"))?;
    Ok((near, handle))
}

struct Job {
    host: Host,
    directory: PathBuf,
    bytes: Option<usize>,
    time: Duration,
    other: TcpStream,
    same: TcpStream,
}

impl Job {
    async fn measure(self) -> anyhow::Result<Floor> {
        let ring = Ring::create(&self.directory, 1, SEGMENT_BYTES).await?;
        let mut other = adopt(self.other)?;
        let mut same = adopt(self.same)?;
        let mut kinds = vec![
            (Kind::Flush(BLOCK_BYTES), Times::default()),
            (Kind::RoundTrip, Times::default()),
            (Kind::RoundTripSameCore, Times::default()),
        ];
        kinds.extend(
            self.bytes
                .map(|bytes| (Kind::Flush(bytes), Times::default())),
        );
        let end = Instant::now() + self.time;
        while Instant::now() < end {
            for (kind, times) in &mut kinds {
                let slice_end = Instant::now() + SLICE;
                let mut done = 0;
                while Instant::now() < slice_end {
                    let time = match *kind {
                        Kind::Flush(bytes) => flush(&ring, bytes).await?,
                        Kind::RoundTrip => round_trip(&mut other).await?,
                        Kind::RoundTripSameCore => round_trip(&mut same).await?,
                    };
                    done += 1;
                    if done > UNCOUNTED {
                        times.record(time);
                    }
                }
            }
        }
        let mut found = kinds.iter().map(|(_, times)| times.microseconds());
        let mut next = || found.next().context("each kind was measured");
        Ok(Floor {
            flush_us: next()?,
            round_trip_us: next()?,
            round_trip_same_core_us: next()?,
            flush_large_us: next().ok(),
            flush_large_bytes: self.bytes,
            host: self.host,
        })
    }
}

async fn flush(ring: &Ring, bytes: usize) -> anyhow::Result<Duration> {
    let mut buffer = ring.buffer(bytes);
    buffer.as_bytes_mut().fill(0xa5);
    let begun = Instant::now();
    ring.append(buffer).await?;
    Ok(begun.elapsed())
}

async fn round_trip(stream: &mut glommio::net::TcpStream) -> anyhow::Result<Duration> {
    let sent = [0x5a; MESSAGE_BYTES];
    let mut answer = [0; MESSAGE_BYTES];
    let begun = Instant::now();
    stream.write_all(&sent).await?;
    stream.read_exact(&mut answer).await?;
    let time = begun.elapsed();
    ensure!(answer == sent, "another answer than what was sent");
    Ok(time)
}

fn table(floor: &Floor) -> String {
    let mut rows = vec![("flush 4 KiB".to_owned(), floor.flush_us)];
    if let (Some(bytes), Some(us)) = (floor.flush_large_bytes, floor.flush_large_us) {
        rows.push((format!("flush {} KiB", bytes >> 10), us));
    }
    rows.push(("round trip, two cores".to_owned(), floor.round_trip_us));
    let same = floor.round_trip_same_core_us;
    rows.push(("round trip, one core".to_owned(), same));
    let mut text = format!("{:<22} {:>9} {:>9} {:>9}", "", "times", "p50 us", "p99 us");
    for (name, us) in rows {
        text += &format!(
            "\n{name:<22} {:>9} {:>9.1} {:>9.1}",
            us.count, us.p50, us.p99
        );
    }
    text
}
