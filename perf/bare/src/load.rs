//! The generator: one pinned thread that waits for all of its sockets at once.
//!
//! Plain epoll and the standard library: a round trip costs a third of what it costs between two
//! executors, so that the server is what is measured. It tells how busy it was all the same.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;

use crate::args::LoadArguments;
use crate::cpu::{Sample, ServeCpu, float, own};
use crate::link::Link;
use crate::report::{Host, Microseconds, Times, write_json};

/// Longest wait for a socket: how late the ends of the phases may be if nothing comes.
const WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
const EVENTS_MAX: usize = 64;

/// What a run found.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub clients: usize,
    pub connections: usize,
    pub batch: u32,
    pub seconds: f64,
    pub records: u64,
    pub throughput_rps: f64,
    /// From before a frame is written until its whole answer is read.
    pub latency_us: Microseconds,
    pub serve_cpu: Option<ServeCpu>,
    /// Of one core.
    pub generator_cpu: f64,
    pub host: Host,
}

/// The measured time's beginning, or its end.
struct Mark {
    at: Instant,
    own: Duration,
    serve: Option<Sample>,
}

/// Measures, prints a table of one row, and writes the document.
///
/// # Errors
/// The server cannot be reached or answers wrongly, or a file cannot be written.
pub fn run(arguments: &LoadArguments) -> anyhow::Result<()> {
    arguments.check()?;
    let measured = measure(arguments)?;
    write_json(arguments.json.as_deref(), &measured)?;
    println!("{}", table(&measured));
    Ok(())
}

fn measure(arguments: &LoadArguments) -> anyhow::Result<Measured> {
    let host = Host::here();
    pin(arguments.cpu).with_context(|| format!("pinning to CPU {}", arguments.cpu))?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut links = Vec::new();
    for number in 0..arguments.connections {
        let clients = share(arguments.clients, arguments.connections, number);
        let link = Link::open(arguments.address, clients, arguments.batch)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        let name = epoll::EventData::new_u64(u64::try_from(number)?);
        epoll::add(&poll, &link.stream, name, flags)?;
        links.push(link);
    }
    let mut events = Vec::with_capacity(EVENTS_MAX);
    let mut until = |end: Instant, times: &mut Times| -> anyhow::Result<u64> {
        let mut answers = 0;
        while Instant::now() < end {
            // An interruption by a signal is an empty list.
            match epoll::wait(&poll, spare_capacity(&mut events), Some(&WAIT)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                let number = usize::try_from(event.data.u64())?;
                answers += links[number].turn(times)?;
            }
        }
        Ok(answers)
    };
    let begun = Instant::now();
    until(
        begun + Duration::from_secs(arguments.warmup),
        &mut Times::default(),
    )?;
    let mut times = Times::default();
    let start = Mark::now(arguments.serve_pid)?;
    let answers = until(
        start.at + Duration::from_secs(arguments.seconds),
        &mut times,
    )?;
    let end = Mark::now(arguments.serve_pid)?;
    ensure!(answers > 0, "no answer in {} seconds", arguments.seconds);
    Ok(summary(arguments, host, answers, &times, [start, end]))
}

fn summary(
    arguments: &LoadArguments,
    host: Host,
    answers: u64,
    times: &Times,
    [start, end]: [Mark; 2],
) -> Measured {
    let records = answers * u64::from(arguments.batch);
    let elapsed = end.at - start.at;
    let serve = start.serve.as_ref().zip(end.serve.as_ref());
    Measured {
        clients: arguments.clients,
        connections: arguments.connections,
        batch: arguments.batch,
        seconds: elapsed.as_secs_f64(),
        records,
        throughput_rps: float(records) / elapsed.as_secs_f64(),
        latency_us: times.microseconds(),
        serve_cpu: serve.map(|(start, end)| end.since(start, records, elapsed)),
        generator_cpu: (end.own - start.own).as_secs_f64() / elapsed.as_secs_f64(),
        host,
    }
}

impl Mark {
    fn now(serve_pid: Option<u32>) -> anyhow::Result<Self> {
        Ok(Self {
            serve: serve_pid.map(Sample::of).transpose()?,
            own: own(),
            at: Instant::now(),
        })
    }
}

/// Clients of one connection: they are dealt out evenly.
fn share(clients: usize, connections: usize, number: usize) -> usize {
    clients / connections + usize::from(number < clients % connections)
}

fn pin(cpu: usize) -> anyhow::Result<()> {
    ensure!(cpu < CpuSet::MAX_CPU, "above {}", CpuSet::MAX_CPU);
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    Ok(sched_setaffinity(None, &cpus)?)
}

/// A head and a row.
fn table(measured: &Measured) -> String {
    let head = format!(
        "{:>10} {:>9} {:>9} {:>26} {:>9} {:>7} {:>7}",
        "records/s",
        "p50 us",
        "p99 us",
        "ns/record (user + system)",
        "+ others",
        "server",
        "client"
    );
    let cpu = measured.serve_cpu.map(|cpu| {
        (
            format!(
                "{:.0} ({:.0} + {:.0})",
                cpu.executor_ns_per_record,
                cpu.executor_user_ns_per_record,
                cpu.executor_system_ns_per_record
            ),
            format!("{:.0}", cpu.other_threads_ns_per_record),
            format!("{:.0} %", 100.0 * cpu.executor_share),
        )
    });
    let (executor, others, busy) = cpu.unwrap_or_default();
    let client = format!("{:.0} %", 100.0 * measured.generator_cpu);
    format!(
        "{head}\n{:>10.0} {:>9.1} {:>9.1} {executor:>26} {others:>9} {busy:>7} {client:>7}",
        measured.throughput_rps, measured.latency_us.p50, measured.latency_us.p99
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_dealt_out_evenly_and_completely() {
        for (clients, connections) in [(64, 64), (1024, 32), (7, 3), (5, 1)] {
            let shares: Vec<usize> = (0..connections)
                .map(|number| share(clients, connections, number))
                .collect();
            assert_eq!(shares.iter().sum::<usize>(), clients);
            let spread = shares.iter().max().unwrap() - shares.iter().min().unwrap();
            assert!(spread <= 1, "{shares:?}");
        }
    }
}
