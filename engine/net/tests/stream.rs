//! Streams of an executor, with blocking sockets of another thread at their other ends.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future;
use glommio::timer::sleep;
use glommio::{LocalExecutorBuilder, Placement};
use quorate_net::{PREEMPT_TIMER, Sockets, Stream, give_way};

/// Whatever does not hang takes a fraction of it.
const LIMIT: Duration = Duration::from_secs(30);

fn run<F: Future<Output = ()> + 'static>(test: impl FnOnce(Rc<Sockets>) -> F + Send + 'static) {
    LocalExecutorBuilder::new(Placement::Fixed(0))
        .preempt_timer(PREEMPT_TIMER)
        .io_memory(64 << 10)
        .spawn(move || async move {
            let (sockets, _serving) = Sockets::start().unwrap();
            let too_late = async {
                sleep(LIMIT).await;
                panic!("not done within {LIMIT:?}");
            };
            future::or(test(sockets), too_late).await;
        })
        .unwrap()
        .join()
        .unwrap();
}

fn pair(sockets: &Rc<Sockets>) -> (Stream, UnixStream) {
    let (here, there) = UnixStream::pair().unwrap();
    (Stream::new(sockets, here).unwrap(), there)
}

async fn read_all(stream: &Stream) -> Vec<u8> {
    let mut read = Vec::new();
    let mut buffer = [0; 777];
    loop {
        match stream.read(&mut buffer).await.unwrap() {
            0 => return read,
            bytes => read.extend_from_slice(&buffer[..bytes]),
        }
    }
}

#[test]
fn what_comes_while_a_task_waits_is_read_and_then_the_end() {
    run(|sockets| async move {
        let (stream, mut there) = pair(&sockets);
        let writer = thread::spawn(move || {
            for byte in 0..=255 {
                there.write_all(&[byte; 1000]).unwrap();
                thread::sleep(Duration::from_micros(u64::from(byte) * 4));
            }
        });
        let read = read_all(&stream).await;
        let expected: Vec<u8> = (0..=255).flat_map(|byte| [byte; 1000]).collect();
        assert_eq!(read, expected);
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "for ever");
        writer.join().unwrap();
    });
}

/// The end comes with the last bytes, and a read that takes those leaves room in its buffer: nothing else will ever
/// tell of the end.
#[test]
fn an_end_that_came_with_the_last_bytes_is_seen() {
    run(|sockets| async move {
        let (stream, mut there) = pair(&sockets);
        there.write_all(b"last").unwrap();
        drop(there);
        // The edge of both is told before the first read.
        give_way().await;
        let mut buffer = [0; 64];
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 4);
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
    });
}

#[test]
fn a_write_larger_than_the_socket_takes_waits_for_room() {
    run(|sockets| async move {
        let (stream, mut there) = pair(&sockets);
        let parts: Vec<Vec<u8>> = (0..1500_u32)
            .map(|part| vec![part.to_le_bytes()[0]; usize::try_from(part * 7 % 4001).unwrap()])
            .collect();
        let expected = parts.concat();
        let reader = thread::spawn(move || {
            let mut read = Vec::new();
            there.read_to_end(&mut read).unwrap();
            read
        });
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        stream.write_all_slices(&mut slices).await.unwrap();
        stream.write_all(&[]).await.unwrap();
        drop(stream);
        assert!(reader.join().unwrap() == expected);
    });
}

#[test]
fn both_directions_wait_at_once() {
    run(|sockets| async move {
        let (stream, mut there) = pair(&sockets);
        let bytes = vec![7; 4 << 20];
        let echo = thread::spawn(move || {
            let mut buffer = vec![0; 4 << 20];
            there.read_exact(&mut buffer).unwrap();
            there.write_all(&buffer).unwrap();
        });
        let reading = async { read_all(&stream).await };
        let writing = async { stream.write_all(&bytes).await.unwrap() };
        let (read, ()) = future::zip(reading, writing).await;
        assert!(read == bytes);
        echo.join().unwrap();
    });
}

#[test]
fn waits_end_after_their_limits() {
    run(|sockets| async move {
        let limit = Duration::from_millis(300);
        let (stream, there) = pair(&sockets);
        stream.set_read_timeout(limit);
        stream.set_write_timeout(limit);
        let begun = Instant::now();
        let read = stream.read(&mut [0; 8]).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(begun.elapsed() >= limit);
        let begun = Instant::now();
        let written = stream.write_all(&vec![0; 8 << 20]).await;
        assert_eq!(written.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(begun.elapsed() >= limit);
        drop(there);
    });
}

/// A reader that gave up on a wait half-way and comes back later starts a new wait.
#[test]
fn a_wait_that_was_given_up_does_not_shorten_the_next() {
    run(|sockets| async move {
        let limit = Duration::from_millis(500);
        let (stream, mut there) = pair(&sockets);
        stream.set_read_timeout(limit);
        let mut buffer = [0; 8];
        for _ in 0..3 {
            let gave_up = async {
                sleep(limit * 3 / 5).await;
                Ok(99)
            };
            assert_eq!(
                future::or(stream.read(&mut buffer), gave_up).await.unwrap(),
                99
            );
        }
        there.write_all(b"x").unwrap();
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 1);
    });
}

#[test]
fn more_sockets_than_one_look_tells_of_are_all_heard() {
    const SOCKETS: usize = 400;
    run(|sockets| async move {
        let (streams, mut others): (Vec<_>, Vec<_>) = (0..SOCKETS).map(|_| pair(&sockets)).unzip();
        let tasks: Vec<_> = streams
            .into_iter()
            .map(|stream| {
                glommio::spawn_local(async move {
                    let mut buffer = [0; 4];
                    for round in 0..20_u32 {
                        assert_eq!(stream.read(&mut buffer).await.unwrap(), 4);
                        assert_eq!(buffer, round.to_le_bytes());
                        stream.write_all(&buffer).await.unwrap();
                    }
                })
            })
            .collect();
        let writer = thread::spawn(move || {
            for round in 0..20_u32 {
                for other in &mut others {
                    other.write_all(&round.to_le_bytes()).unwrap();
                }
                for other in &mut others {
                    let mut echo = [0; 4];
                    other.read_exact(&mut echo).unwrap();
                    assert_eq!(echo, round.to_le_bytes());
                }
            }
        });
        for task in tasks {
            task.await;
        }
        writer.join().unwrap();
        // Their places are taken again.
        let (stream, mut there) = pair(&sockets);
        there.write_all(b"again").unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 5);
    });
}

#[test]
fn connecting_brings_a_stream_or_the_reason_why_not() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    run(move |sockets| async move {
        let stream = Stream::connect(&sockets, address).await.unwrap();
        stream.set_nodelay().unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut read = [0; 5];
        accepted.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"hello");
        drop((listener, accepted));
        let refused = Stream::connect(&sockets, address).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_reset_ends_reading_and_writing() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    run(move |sockets| async move {
        let client = TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let stream = Stream::new(&sockets, accepted).unwrap();
        stream.write_all(b"never read").await.unwrap();
        // Closed with bytes that nobody read: the kernel resets the connection.
        drop(client);
        let read = stream.read(&mut [0; 8]).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let broken = stream.write_all(&vec![0; 8 << 20]).await;
        assert_eq!(broken.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}
