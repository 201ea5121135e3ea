//! A plan as the cluster keeps it, as JSON and for people.

use quorate_client::reshard::record::{Record, Traffic};
use serde_json::{Value, json};

/// The document of one plan. Times are decimal strings of nanoseconds since 1970.
pub fn document(record: &Record) -> Value {
    let progress = &record.progress;
    json!({
        "number": record.number,
        "undoes": record.undoes,
        "status": record.status,
        "reason": record.reason,
        "created": record.created_unix_ns.to_string(),
        "ended": record.ended_unix_ns.map(|ns| ns.to_string()),
        "planned": record.moves,
        "settled": progress.settled(),
        "moved": progress.moved,
        "already_there": progress.already_there,
        "elsewhere": progress.elsewhere_before + progress.elsewhere,
        "refused": progress.refused,
        "given_up": progress.given_up,
        "retries": progress.retries,
        "seconds": progress.seconds,
        "freeze_us": progress.freeze.quantiles_us().map(|(p50, p99, max)| json!({
            "p50": p50,
            "p99": p99,
            "max": max,
        })),
        "predicted": record.predicted,
        "before": traffic(&record.before),
        "driver": record.driver.map(|driver| json!({
            "pause_ms": driver.pause_ms,
            "p99_us": { "before": driver.p99_before_us, "now": driver.p99_now_us },
        })),
    })
}

/// Committed transfers, their ratio and rate.
pub fn traffic(traffic: &Traffic) -> Value {
    json!({
        "local": traffic.local,
        "cross": traffic.cross,
        "cross_shard_ratio": traffic.cross_shard_ratio(),
        "throughput_tps": traffic.throughput(),
    })
}

/// Some lines about one plan.
pub fn people(record: &Record) -> String {
    let progress = &record.progress;
    let undoes = match record.undoes {
        None => String::new(),
        Some(number) => format!(", undoes plan {number}"),
    };
    let reason = match &record.reason {
        None => String::new(),
        Some(reason) => format!(": {reason}"),
    };
    let mut lines = vec![
        format!(
            "plan {}{undoes}: {}{reason}",
            record.number,
            record.status.name()
        ),
        format!(
            "{} of {} accounts moved; {} were there before, {} are elsewhere or nowhere, {} refused; {} retries, {:.1} s",
            progress.moved,
            record.moves,
            progress.already_there,
            progress.elsewhere_before + progress.elsewhere,
            progress.refused,
            progress.retries,
            progress.seconds,
        ),
    ];
    if progress.given_up > 0 {
        lines.push(format!(
            "{} accounts could not be moved in time",
            progress.given_up
        ));
    }
    if let Some((p50, p99, max)) = progress.freeze.quantiles_us() {
        lines.push(format!(
            "an account was frozen for {p50} us (p50), {p99} us (p99), {max} us (max)"
        ));
    }
    if let Some(driver) = record.driver {
        lines.push(format!(
            "p99 of requests {} us, {} us before; pause between batches {} ms",
            driver.p99_now_us, driver.p99_before_us, driver.pause_ms
        ));
    }
    lines.join("\n")
}

/// One line while it goes on.
pub fn progress_line(record: &Record) -> String {
    let pause = record.driver.map_or(0, |driver| driver.pause_ms);
    format!(
        "{} of {} accounts settled, {} retries, pause {pause} ms",
        record.progress.settled(),
        record.moves,
        record.progress.retries
    )
}
