//! One connection of the generator, and the clients that share it.
//!
//! Each client has one frame in flight; an answer is checked byte by byte before the next one goes out.
//! All frames that are due go out in one write.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use crate::frame::{ECHO_BYTES, Frame, FrameReader, Header, Kind, RECORD_BYTES};
use crate::report::Times;

/// A client of this connection.
#[derive(Clone, Copy, Debug)]
struct Client {
    /// Frames that it has sent; the last one's number is in its first record.
    round: u32,
    sent: Instant,
}

/// A socket that never blocks, and what is on its way through it.
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    incoming: FrameReader,
    outgoing: Vec<u8>,
    /// Of those, already with the kernel.
    written: usize,
    clients: Vec<Client>,
    batch: u32,
}

impl Link {
    /// Connects, and sends the first frame of each of its clients.
    pub(crate) fn open(address: SocketAddr, clients: usize, batch: u32) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(address).with_context(|| format!("connecting {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let sent = Instant::now();
        let mut link = Self {
            stream,
            incoming: FrameReader::new(Kind::Answer),
            outgoing: Vec::new(),
            written: 0,
            clients: vec![Client { round: 0, sent }; clients],
            batch,
        };
        for number in 0..u32::try_from(clients)? {
            link.send(number, sent)?;
        }
        link.write()?;
        Ok(link)
    }

    /// Reads what has come, sends what is due for that, and counts the answers into `times`. Everything
    /// that is there is read: the socket tells only of what comes later.
    pub(crate) fn turn(&mut self, times: &mut Times) -> anyhow::Result<u64> {
        let mut answers = 0;
        let mut is_more = true;
        while is_more {
            let space = self.incoming.space();
            let room = space.len();
            let read = match self.stream.read(space) {
                Ok(0) => bail!("the server has closed a connection"),
                Ok(read) => read,
                Err(error) if is_nothing(&error) => break,
                Err(error) => return Err(error.into()),
            };
            let now = Instant::now();
            is_more = read == room;
            self.incoming.advance(read);
            while let Some(answer) = self.incoming.next_frame()? {
                let number = answer.header.number;
                let sent = check(&self.clients, self.batch, answer)?;
                times.record(now - sent);
                answers += 1;
                self.send(number, now)?;
            }
        }
        self.write()?;
        Ok(answers)
    }

    /// Puts the next frame of a client behind what is to be written.
    fn send(&mut self, number: u32, now: Instant) -> anyhow::Result<()> {
        let client = self.clients.get_mut(usize::try_from(number)?);
        let client = client.context("a client of this connection")?;
        *client = Client {
            round: client.round.wrapping_add(1),
            sent: now,
        };
        let round = client.round;
        let header = Header {
            kind: Kind::Request,
            count: self.batch,
            number,
        };
        header.append_to(&mut self.outgoing);
        let mut record = [0xa5; RECORD_BYTES];
        for index in 0..self.batch {
            record[..ECHO_BYTES].copy_from_slice(&id(number, round, index));
            self.outgoing.extend_from_slice(&record);
        }
        Ok(())
    }

    /// Writes as much as the socket takes; it tells when it takes more.
    fn write(&mut self) -> io::Result<()> {
        while self.written < self.outgoing.len() {
            match self.stream.write(&self.outgoing[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if is_nothing(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.outgoing.clear();
        self.written = 0;
        Ok(())
    }
}

/// The first bytes of a record: no two records of a run that are in flight have the same.
fn id(number: u32, round: u32, index: u32) -> [u8; ECHO_BYTES] {
    let mut id = [0; ECHO_BYTES];
    for (field, value) in id.chunks_exact_mut(4).zip([number, round, index]) {
        field.copy_from_slice(&value.to_le_bytes());
    }
    id
}

/// When the frame was sent that this is the answer of.
fn check(clients: &[Client], batch: u32, answer: Frame<'_>) -> anyhow::Result<Instant> {
    let Header { count, number, .. } = answer.header;
    let client = clients.get(usize::try_from(number)?);
    let client = client.with_context(|| format!("an answer for client {number}"))?;
    ensure!(count == batch, "{count} records answered of {batch}");
    for (index, echo) in (0..).zip(answer.payload.chunks(ECHO_BYTES)) {
        let expected = id(number, client.round, index);
        ensure!(
            echo == expected,
            "record {index} of client {number} is answered {echo:?}, not {expected:?}"
        );
    }
    Ok(client.sent)
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_of_the_frame_in_flight_is_taken() {
        let sent = Instant::now();
        let clients = [Client { round: 5, sent }; 2];
        let problem = |number: u32, round: u32, count: u32| {
            let payload: Vec<u8> = (0..count)
                .flat_map(|index| id(number, round, index))
                .collect();
            let header = Header {
                kind: Kind::Answer,
                count,
                number,
            };
            let payload = &payload[..];
            let checked = check(&clients, 3, Frame { header, payload });
            checked.err().map(|error| error.to_string())
        };
        assert_eq!(problem(1, 5, 3), None);
        for (number, round, count, expected) in [
            (2, 5, 3, "an answer for client 2"),
            (1, 4, 3, "record 0 of client 1"),
            (1, 5, 2, "2 records answered of 3"),
        ] {
            let problem = problem(number, round, count).unwrap_or_default();
            assert!(problem.contains(expected), "{problem}");
        }
    }

    #[test]
    fn records_in_flight_have_ids_of_their_own() {
        assert_ne!(id(1, 2, 3), id(2, 1, 3));
        assert_ne!(id(1, 2, 3), id(1, 2, 4));
    }
}
