//! `quorate top`: the whole cluster on one screen.
//!
//! [`poll`] asks the replicas in a thread of its own, with deadlines; [`model`] understands the answers; [`view`]
//! draws what is known; [`screen`] has the terminal and the keys. Model and view are pure. Nothing here
//! changes anything in the cluster.

#[cfg(test)]
mod fixture;
mod format;
mod model;
#[cfg(test)]
mod model_tests;
mod poll;
mod sample;
mod screen;
mod series;
#[cfg(test)]
mod snapshots;
mod view;

use std::io::{self, IsTerminal};
use std::thread;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use ratatui::layout::Rect;

use self::model::Model;
use self::poll::Poller;
use self::view::Choice;
use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::print::{self, Output};
use crate::target::ClusterFile;

/// Shorter ones would measure the polls.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Longer ones would leave no course of a minute.
const INTERVAL_MAX: Duration = Duration::from_secs(30);
/// Beyond any screen, and small enough to draw.
const SIDE_MAX: u16 = 1_000;

/// Options of `top`.
#[derive(Args, Debug)]
pub struct TopArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    /// Time between two polls, from 100ms to 30s
    #[arg(long, default_value = "1s", value_parser = parse_interval)]
    pub interval: Duration,
    /// Print one screen as text after two polls, without keys and colours; needs no terminal
    #[arg(long)]
    pub once: bool,
    /// Size of the screen of `--once`; it takes 80x24 to show everything
    #[arg(
        long,
        default_value = "80x24",
        requires = "once",
        value_name = "COLSxROWS",
        value_parser = parse_size
    )]
    pub size: Size,
}

/// Columns and rows of a screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub columns: u16,
    pub rows: u16,
}

/// Shows the screen until a key ends it, or prints one.
pub fn run(args: &TopArgs, context: Context) -> Outcome {
    if context.output == Output::Machine {
        return Err(Failure::usage(
            "top draws a screen for people; `quorate status --json` has the numbers",
        ));
    }
    let has_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    if !args.once && !has_terminal {
        return Err(Failure::usage(
            "top needs a terminal; `quorate status` prints the replicas, `quorate top --once` one screen as text",
        ));
    }
    let config = args.cluster.load()?;
    let model = Model::new(&config, args.interval);
    let poller = Poller::new(&config);
    match args.once {
        true => once(model, poller, args.size),
        false => screen::run(model, poller),
    }
}

/// Two polls, for rates lie between them.
fn once(mut model: Model, mut poller: Poller, size: Size) -> Outcome {
    model.absorb(poller.poll());
    thread::sleep(model.interval);
    model.absorb(poller.poll());
    let area = Rect::new(0, 0, size.columns, size.rows);
    let screen = view::frame(&model, Choice::default(), area);
    print::line(view::text_of(&screen).trim_end())?;
    match model.anybody_answers() {
        true => Ok(()),
        false => Err(anyhow!("no replica answers").into()),
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
        true => Ok(interval),
        false => Err("expected 100ms to 30s".to_owned()),
    }
}

fn parse_size(text: &str) -> Result<Size, String> {
    let side = |text: &str| {
        let side = text.parse::<u16>().ok();
        side.filter(|side| (1..=SIDE_MAX).contains(side))
    };
    let sides = text.split_once('x');
    let sides = sides.and_then(|(columns, rows)| side(columns).zip(side(rows)));
    let (columns, rows) = sides
        .ok_or_else(|| format!("expected columns and rows such as 80x24, each up to {SIDE_MAX}"))?;
    Ok(Size { columns, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_two_numbers_that_a_screen_can_have() {
        let size = Size {
            columns: 120,
            rows: 40,
        };
        assert_eq!(parse_size("120x40"), Ok(size));
        for wrong in ["", "x", "80", "80x", "0x24", "80x-1", "80x1001", "80 x 24"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn intervals_have_bounds() {
        assert_eq!(parse_interval("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "1", "99ms", "31s"] {
            assert!(parse_interval(wrong).is_err(), "{wrong}");
        }
    }
}
