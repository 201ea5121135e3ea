//! The interval log of a run (`--hlog`): one line a second, which the usual HdrHistogram tools read.
//!
//! A line has a second's latencies in nanoseconds, of all requests that were answered in it, as a
//! compressed histogram (format V2). Seconds without an answer have a line too, with an empty one.
//! Added up, the lines are the histogram that the report's percentiles come from. Lines count from
//! `BaseTime`, the start of measuring by the wall clock; the column of maxima is in milliseconds.

use std::fs::File;
use std::io::{self, LineWriter};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

/// Seconds between the generator and the writer. A disk that cannot keep up for four minutes slows
/// the generator down: a second left out would be a percentile that is not true.
const SECONDS_MAX: usize = 256;
/// What tools look for in the first line.
const FORMAT: &str = "[Histogram log format version 1.3]";
/// Nanoseconds of the unit in which maxima are told.
const MAXIMUM_UNIT_NS: f64 = 1e6;

/// The file. A thread of its own compresses and writes, so that the generator only hands over.
#[derive(Debug)]
pub struct IntervalLog {
    seconds: SyncSender<Message>,
    writer: JoinHandle<io::Result<()>>,
}

/// Where a recorder puts the seconds that ended.
#[derive(Clone, Debug)]
pub struct Seconds(SyncSender<Message>);

#[derive(Debug)]
enum Message {
    /// Nanoseconds since 1970 at which measuring begins.
    Begin(u64),
    Second(u64, Histogram<u64>),
}

impl IntervalLog {
    /// Creates the file, or empties an old one.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        let (seconds, received) = sync_channel(SECONDS_MAX);
        let writer = std::thread::Builder::new()
            .name("hlog".to_owned())
            .spawn(move || write_all(file, &received))?;
        Ok(Self { seconds, writer })
    }

    /// Begins the log; `unix_ns` since 1970 is where its first second begins.
    #[must_use]
    pub fn begin(&self, unix_ns: u64) -> Seconds {
        // A writer that failed has dropped its end; its error is told by `finish`.
        let _ = self.seconds.send(Message::Begin(unix_ns));
        Seconds(self.seconds.clone())
    }

    /// Waits until everything is written. All [`Seconds`] have to be gone.
    ///
    /// # Errors
    /// Something could not be written.
    pub fn finish(self) -> io::Result<()> {
        drop(self.seconds);
        match self.writer.join() {
            Ok(result) => result,
            Err(_) => Err(io::Error::other("the writer of the interval log panicked")),
        }
    }
}

impl Seconds {
    /// Hands over a second that ended, counted from the start of measuring.
    pub fn push(&self, second: u64, latency: Histogram<u64>) {
        let _ = self.0.send(Message::Second(second, latency));
    }
}

fn write_all(file: File, messages: &Receiver<Message>) -> io::Result<()> {
    let Ok(Message::Begin(unix_ns)) = messages.recv() else {
        // Nothing was measured.
        return Ok(());
    };
    let mut out = LineWriter::new(file);
    let mut serializer = V2DeflateSerializer::new();
    let begin = UNIX_EPOCH + Duration::from_nanos(unix_ns);
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment(FORMAT)
        .with_start_time(begin)
        .with_base_time(begin)
        .with_max_value_divisor(MAXIMUM_UNIT_NS)
        .begin_log_with(&mut out, &mut serializer)?;
    for message in messages {
        if let Message::Second(second, latency) = message {
            let length = Duration::from_secs(1);
            log.write_histogram(&latency, Duration::from_secs(second), length, None)
                .map_err(io::Error::other)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Recorder;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    use quorate_protocol::ledger::{ResultCode, ResultRow};
    use quorate_protocol::time::Timestamp;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn the_lines_added_up_are_the_histogram_of_the_report() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.hlog");
        let log = IntervalLog::create(&path).unwrap();
        let mut recorder = Recorder::default();
        recorder.keep_seconds(log.begin(1_700_000_000 * SECOND_NS));
        let rows = [ResultRow::logged(ResultCode::Ok, Timestamp(1))];
        for n in 0..5_000_u64 {
            // Nothing is answered in the third second.
            let at_ns = n * 2_000_000 / 4 + if n < 4_000 { 0 } else { SECOND_NS };
            recorder.request(at_ns, 1 + n * n, &rows);
        }
        recorder.finish();
        log.finish().unwrap();

        let text = std::fs::read(&path).unwrap();
        assert!(text.starts_with(b"#[Histogram log format version 1.3]\n"));
        let mut starts = Vec::new();
        let mut sum = Histogram::<u64>::new(3).unwrap();
        for entry in IntervalLogIterator::new(&text) {
            match entry.unwrap() {
                LogEntry::BaseTime(base) => assert_eq!(base.as_secs(), 1_700_000_000),
                LogEntry::StartTime(start) => assert_eq!(start.as_secs(), 1_700_000_000),
                LogEntry::Interval(interval) => {
                    starts.push(interval.start_timestamp().as_secs());
                    let bytes = BASE64.decode(interval.encoded_histogram()).unwrap();
                    let second = Deserializer::new().deserialize(&mut &*bytes).unwrap();
                    sum.add::<Histogram<u64>>(second).unwrap();
                }
            }
        }
        assert_eq!(starts, [0, 1, 2, 3]);
        let all = recorder.all();
        assert_eq!(sum.len(), 5_000);
        for q in [0.0, 0.5, 0.9, 0.99, 0.999, 1.0] {
            assert_eq!(sum.value_at_quantile(q), all.value_at_quantile(q), "{q}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error() {
        let log = IntervalLog::create(Path::new("/dev/full")).unwrap();
        drop(log.begin(1));
        assert!(log.finish().is_err());
    }

    #[test]
    fn a_run_that_measured_nothing_leaves_an_empty_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.hlog");
        IntervalLog::create(&path).unwrap().finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }
}
