//! A process in which every descriptor is in use. Alone in its binary: the limit is the whole process's.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};
use quorate_net::{PREEMPT_TIMER, Sockets, Stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const ROUNDS: u8 = 50;

/// Waiting takes a descriptor: without one, sockets are still heard.
#[test]
fn sockets_are_heard_while_no_descriptor_is_free() {
    let executor = LocalExecutorBuilder::new(Placement::Fixed(0))
        .preempt_timer(PREEMPT_TIMER)
        .io_memory(64 << 10)
        .spawn(|| async move {
            let (sockets, _serving) = Sockets::start().unwrap();
            let (here, mut there) = UnixStream::pair().unwrap();
            let stream = Stream::new(&sockets, here).unwrap();
            let limit = Rlimit {
                current: Some(256),
                ..getrlimit(Resource::Nofile)
            };
            setrlimit(Resource::Nofile, limit).unwrap();
            let taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
            assert!(!taken.is_empty() && taken.len() < 256);
            let writer = thread::spawn(move || {
                for round in 0..ROUNDS {
                    thread::sleep(Duration::from_millis(2));
                    there.write_all(&[round]).unwrap();
                }
            });
            let mut buffer = [0];
            for round in 0..ROUNDS {
                assert_eq!(stream.read(&mut buffer).await.unwrap(), 1);
                assert_eq!(buffer, [round]);
            }
            writer.join().unwrap();
        });
    executor.unwrap().join().unwrap();
}
